"""DecoderScorer: exact scores of many questions about an image at little more than the cost of one.

    uint8 images -> vision tower and the tokens that all questions share, once for each image, into a key-value cache
                 -> all questions with all answers as one continuation of it (`continuation.py`)
                 -> log p(answer | question, image), whole answers with the token that ends them

The numbers are the same as when each question and answer is given to the model alone (`reference.py`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faceattr.devices import default_dtype, resolve_device
from faceattr.errors import ModelError
from faceattr.vqa.batching import HalvingBatcher
from faceattr.vqa.decoder.checkpoint import DecoderCheckpoint, place_decoder
from faceattr.vqa.decoder.continuation import Continuation, build_continuation
from faceattr.vqa.decoder.prompts import prompt_questions, shared_prefix
from faceattr.vqa.finite import FiniteBatcher
from faceattr.vqa.questions import VqaQuestion, compute_answer_slices
from faceattr.vqa.scorer import check_images
from faceattr.vqa.staging import build_staging


class DecoderScorer:
    """Scores the answers of a fixed list of questions for any number of images.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each question in the scores.
        device: where the model runs.
        dtype: the model's precision; logarithms are always taken in float32.
    """

    def __init__(
        self,
        checkpoint: DecoderCheckpoint,
        questions: Sequence[VqaQuestion],
        *,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        batch_size: int = 8,
    ) -> None:
        """Tokenises the questions, joins them, and moves the model to the device.

        Args:
            checkpoint: from `load_decoder`; it stays on the CPU and unchanged.
            questions: at least one.
            device: `auto`, `cpu`, `cuda` or `cuda:<index>`.
            dtype: None for float16 on a GPU and float32 elsewhere.
            batch_size: images per forward pass; halved when memory runs out.

        Raises:
            ConfigError, ModelError: a question, an answer, the chat template or the device cannot be used.
        """
        self.device = resolve_device(device)
        self.dtype = dtype or default_dtype(self.device)
        self.image_size_px = checkpoint.square.size_px
        self.answer_slices = compute_answer_slices(questions)
        prompted = prompt_questions(checkpoint, questions)
        num_shared = shared_prefix(prompted)
        image_token = checkpoint.model.config.image_token_id
        if image_token in prompted[0].prompt[num_shared:]:
            raise ModelError(
                f"{checkpoint.folder}: expected the chat template to put the image before the question, found part of "
                "it behind; run with `--engine hf`"
            )
        self._checkpoint = checkpoint
        self._continuation = build_continuation(prompted, num_shared).to(self.device)
        self._staging = build_staging(self.device)
        batcher = HalvingBatcher(self._runner(self.dtype), batch_size, staging=self._staging)
        exact = None if self.dtype == torch.float32 else self._build_exact
        self._batcher = FiniteBatcher(batcher, exact, name=self._checkpoint.folder)

    @property
    def batch_size(self) -> int:
        """Images per forward pass, after any halving."""
        return self._batcher.batch_size

    def score(self, images: np.ndarray) -> np.ndarray:
        """Computes log-likelihoods of all answers.

        Args:
            images: uint8 [n, S, S, 3], RGB, from `resize_square`.

        Returns:
            float32 [n, total answers], natural logarithms, always finite.

        Raises:
            ModelError: the model computes non-finite numbers, or one image does not fit into memory.
        """
        check_images(images, self.image_size_px)
        if len(images) == 0:
            return np.empty((0, self.answer_slices[-1].stop), dtype=np.float32)
        return self._batcher(images)

    def _build_exact(self) -> HalvingBatcher:
        return HalvingBatcher(self._runner(torch.float32), self.batch_size, staging=self._staging)

    def _runner(self, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
        model = place_decoder(self._checkpoint.model, self.device, dtype)

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return self._forward(model, images)

        return run

    def _forward(self, model: Any, images: Tensor) -> Tensor:
        """uint8 [n, S, S, 3] -> float32 [n, total answers]."""
        tokens, n = self._continuation, len(images)
        shared = model(
            input_ids=tokens.prefix.expand(n, -1),
            **self._checkpoint.encode_images(images, tokens.prefix),
            use_cache=True,
            logits_to_keep=1,
        )
        logits = model(
            input_ids=tokens.token_ids.expand(n, -1),
            attention_mask=tokens.visible.expand(n, 1, -1, -1),
            position_ids=_positions(model, tokens, n),
            past_key_values=shared.past_key_values,
            logits_to_keep=tokens.read_at,
        ).logits
        return tokens.sum_answers(logits)


def _positions(model: Any, tokens: Continuation, n: int) -> Tensor:
    """Returns the continuation's positions, int64 [n, T], or [3, n, T] of a model that numbers patches in 2-D.

    Such a model spends fewer positions on an image than it has tokens, and keeps the difference of its last prefill.
    """
    positions = len(tokens.prefix) + tokens.offsets
    spent = getattr(model.model, "rope_deltas", None)
    if spent is None:
        return positions.expand(n, -1)
    return (positions + spent[:1]).expand(3, n, -1)
