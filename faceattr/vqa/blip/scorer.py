"""BlipScorer: exact scores of many questions about an image at little more than the cost of one.

    uint8 images -> vision tower, once per image (`network/vision.py`)
                 -> all questions packed in one sequence (`network/sequence.py`), encoded against image keys and
                    values that are projected once (`network/text.py`)
                 -> all answers of all questions as token trees, decoded in one pass
                 -> log p(answer | question, image), whole answers with their [SEP]

The numbers are the same as when each question is asked alone through the Hugging Face modules (`oracle/reference.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from faceattr.devices import default_dtype, resolve_device
from faceattr.errors import ConfigError
from faceattr.vqa.batching import HalvingBatcher
from faceattr.vqa.blip.checkpoint import BlipCheckpoint
from faceattr.vqa.blip.network.attention import rank_backends
from faceattr.vqa.blip.network.fp8 import FP8, quantise_tower
from faceattr.vqa.blip.network.network import BlipNetwork
from faceattr.vqa.blip.network.sequence import MAX_PACK_TOKENS, pack, plan_packs
from faceattr.vqa.blip.tokens import QuestionStart, tokenize_questions
from faceattr.vqa.compiling import compile_network
from faceattr.vqa.finite import FiniteBatcher
from faceattr.vqa.questions import VqaQuestion, compute_answer_slices
from faceattr.vqa.scorer import check_images
from faceattr.vqa.staging import build_staging

# Measured on an H200: 64 images leave it waiting for launches, 256 gain another 2 %.
_CUDA_BATCH_SIZE, _OTHER_BATCH_SIZE = 128, 8
# Attention is measured on as many images; more take the same time per image.
_MEASURED_IMAGES = 32


class BlipScorer:
    """Scores the answers of a fixed list of questions for any number of images.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each question in the scores.
        questions: the questions and their answers as token ids.
        device: where the model runs.
        dtype: the model's precision; logarithms are always taken in float32.
    """

    def __init__(
        self,
        checkpoint: BlipCheckpoint,
        questions: Sequence[VqaQuestion],
        *,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        question_start: QuestionStart = "cls",
        batch_size: int | None = None,
        max_pack_tokens: int = MAX_PACK_TOKENS,
        compile_in: Path | None = None,
    ) -> None:
        """Tokenises the questions, packs them, and moves the model to the device.

        Args:
            checkpoint: from `load_blip`; it stays on the CPU and unchanged.
            questions: at least one.
            device: `auto`, `cpu`, `cuda` or `cuda:<index>`.
            dtype: None for float16 on a GPU and float32 elsewhere; float8_e4m3fn for a vision tower whose matrix
                products are in 8 bits, which the CPU only imitates.
            question_start: `cls` as in the Hugging Face port, `enc` as in the original BLIP.
            batch_size: images per forward pass, None for 128 on a GPU and 8 elsewhere; halved when memory runs out.
            max_pack_tokens: longest packed sequence; more questions are divided into several.
            compile_in: folder for compiled kernels, to compile the network at its first batch; None to leave it.

        Raises:
            ConfigError: a question, an answer or the device cannot be used.
        """
        self.device = resolve_device(device)
        self.dtype = dtype or default_dtype(self.device)
        self.image_size_px = checkpoint.preprocessing.size_px
        self.answer_slices = compute_answer_slices(questions)
        if batch_size is None:
            batch_size = _CUDA_BATCH_SIZE if self.device.type == "cuda" else _OTHER_BATCH_SIZE
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, found {batch_size}")

        architecture = checkpoint.architecture
        self.questions = tuple(
            tokenize_questions(
                checkpoint.tokenizer,
                questions,
                question_start=question_start,
                max_positions=architecture.max_positions,
            )
        )
        self._packs = [
            pack(chunk, dec_token_id=architecture.dec_token_id)
            for chunk in plan_packs(self.questions, max_tokens=max_pack_tokens)
        ]
        self._checkpoint = checkpoint
        self._staging = build_staging(self.device)
        self._attention = self._rank_attention() if self.device.type == "cuda" else None
        network = self._build_network(self.dtype)
        batcher = HalvingBatcher(
            self._runner(network if compile_in is None else compile_network(network, compile_in)),
            batch_size,
            staging=self._staging,
            is_fixed=compile_in is not None,
        )
        exact = None if self.dtype == torch.float32 else self._build_exact
        self._batcher = FiniteBatcher(batcher, exact, name=self._checkpoint.name)

    @property
    def batch_size(self) -> int:
        """Images per forward pass, after any halving."""
        return self._batcher.batch_size

    def score(self, images: np.ndarray) -> np.ndarray:
        """Computes log-likelihoods of all answers.

        Args:
            images: uint8 [n, S, S, 3], RGB, from `resize_rgb`.

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
        return HalvingBatcher(self._runner(self._build_network(torch.float32)), self.batch_size, staging=self._staging)

    def _build_network(self, dtype: torch.dtype) -> BlipNetwork:
        # A GPU likes few large products. A CPU gains nothing by them, and writes hundreds of megabytes.
        layers_at_once = self._checkpoint.architecture.text.layers if self.device.type == "cuda" else 1
        network = BlipNetwork(self._checkpoint, self._packs, layers_at_once=layers_at_once)
        network.to(self.device, self._state_dtype(dtype))
        if dtype == FP8:
            quantise_tower(network.vision)
        return network

    def _state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Returns the precision of everything but 8-bit matrix products."""
        return default_dtype(self.device) if dtype == FP8 else dtype

    def _runner(self, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Returns the network without gradients, with the attention kernels that were found fastest."""

        def run(images: Tensor) -> Tensor:
            kernels = nullcontext() if self._attention is None else sdpa_kernel(self._attention, set_priority=True)
            with torch.inference_mode(), kernels:
                return network(images)

        return run

    def _rank_attention(self) -> list[SDPBackend]:
        sizes, architecture = self._checkpoint.architecture.vision, self._checkpoint.architecture
        tokens = 1 + (architecture.image_px // architecture.patch_px) ** 2
        shape = (_MEASURED_IMAGES, tokens, sizes.heads, sizes.width // sizes.heads)
        return rank_backends(device=self.device, dtype=self._state_dtype(self.dtype), shape=shape)
