"""PlainDecoder: each question and answer alone through the model, obviously correct and slow (`--engine hf`)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from faceattr.devices import resolve_device
from faceattr.vqa.batching import HalvingBatcher
from faceattr.vqa.decoder.checkpoint import DecoderCheckpoint, place_decoder
from faceattr.vqa.decoder.prompts import prompt_questions
from faceattr.vqa.questions import VqaQuestion, compute_answer_slices
from faceattr.vqa.scorer import check_images
from faceattr.vqa.staging import InPlace


class PlainDecoder:
    """Same interface as `DecoderScorer`, always in float32.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each question in the scores.
        device: where the model runs.
        dtype: float32.
    """

    dtype = torch.float32

    def __init__(
        self,
        checkpoint: DecoderCheckpoint,
        questions: Sequence[VqaQuestion],
        *,
        device: str = "auto",
        batch_size: int = 8,
    ) -> None:
        """Arguments as in `DecoderScorer`."""
        self.device = resolve_device(device)
        self.image_size_px = checkpoint.square.size_px
        self.answer_slices = compute_answer_slices(questions)
        self._checkpoint = checkpoint
        self._questions = prompt_questions(checkpoint, questions)
        self._model = place_decoder(checkpoint.model, self.device, self.dtype)
        self._batcher = HalvingBatcher(self._forward, batch_size, staging=InPlace())

    def score(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, S, S, 3] -> float32 [n, total answers], natural logs of p(whole answer), its end included."""
        check_images(images, self.image_size_px)
        if len(images) == 0:
            return np.empty((0, self.answer_slices[-1].stop), dtype=np.float32)
        return self._batcher(images)

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        scores = [
            self._score_answer(images, text, len(question.prompt), answer)
            for question in self._questions
            for text, answer in zip(question.texts, question.answers, strict=True)
        ]
        return torch.stack(scores, dim=1)

    def _score_answer(self, images: Tensor, text: str, start: int, answer: tuple[int, ...]) -> Tensor:
        """Returns log p(answer), float32 [n], of an answer whose tokens begin at `start` in the text's."""
        inputs = self._checkpoint.encode([text] * len(images), list(images.numpy()))
        logits = self._model(**{name: each.to(self.device) for name, each in inputs.items()}, use_cache=False).logits
        log_probabilities = logits.float().log_softmax(dim=-1)
        return torch.stack([log_probabilities[:, start + place - 1, token] for place, token in enumerate(answer)]).sum(
            dim=0
        )
