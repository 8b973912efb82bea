"""HfScorer: the plain path through the Hugging Face modules, obviously correct and slow (`--engine hf`).

It scores one question at a time, unpadded, and one answer at a time by teacher forcing. Every other engine is compared
with it. Padding would change the numbers: this version of `BlipTextLayer` drops the cross-attention mask.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from faceattr.devices import place, resolve_device
from faceattr.vqa.batching import HalvingBatcher
from faceattr.vqa.blip.oracle.modules import HfBlip, load_hf_blip
from faceattr.vqa.blip.tokens import QuestionStart, TokenizedQuestion, tokenize_questions
from faceattr.vqa.questions import VqaQuestion, compute_answer_slices
from faceattr.vqa.scorer import check_images
from faceattr.vqa.staging import InPlace


class HfScorer:
    """Same interface as `BlipScorer`, always in float32.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each question in the scores.
        device: where the model runs.
        dtype: float32.
    """

    dtype = torch.float32

    def __init__(
        self,
        checkpoint: HfBlip,
        questions: Sequence[VqaQuestion],
        *,
        device: str = "auto",
        question_start: QuestionStart = "cls",
        batch_size: int = 8,
    ) -> None:
        """Arguments as in `BlipScorer`."""
        self.device = resolve_device(device)
        self.image_size_px = checkpoint.size_px
        self.answer_slices = compute_answer_slices(questions)
        self._batcher = HalvingBatcher(self._forward, batch_size, staging=InPlace())
        self._processor = checkpoint.image_processor
        self._model = place(checkpoint.model, self.device, self.dtype)
        self._dec_token_id = checkpoint.model.config.text_config.bos_token_id
        self._questions = tokenize_questions(
            checkpoint.tokenizer,
            questions,
            question_start=question_start,
            max_positions=checkpoint.model.config.text_config.max_position_embeddings,
        )

    def score(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, S, S, 3] -> float32 [n, total answers], natural logs of p(whole answer), [SEP] included."""
        check_images(images, self.image_size_px)
        if len(images) == 0:
            return np.empty((0, self.answer_slices[-1].stop), dtype=np.float32)
        return self._batcher(images)

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        pixel_values = self._processor(
            images=list(images.numpy()), do_resize=False, input_data_format="channels_last", return_tensors="pt"
        )["pixel_values"]
        image_tokens = self._model.vision_model(pixel_values=pixel_values.to(self.device)).last_hidden_state
        scores = [self._score_question(image_tokens, question) for question in self._questions]
        return torch.cat(scores, dim=1)

    def _score_question(self, image_tokens: Tensor, question: TokenizedQuestion) -> Tensor:
        n = len(image_tokens)
        question_states = self._model.text_encoder(
            input_ids=self._repeat(question.token_ids, n), encoder_hidden_states=image_tokens
        ).last_hidden_state
        return torch.stack([self._score_answer(question_states, answer) for answer in question.answers], dim=1)

    def _score_answer(self, question_states: Tensor, answer: tuple[int, ...]) -> Tensor:
        n = len(question_states)
        logits = self._model.text_decoder(
            input_ids=self._repeat((self._dec_token_id, *answer[:-1]), n),
            encoder_hidden_states=question_states,
            use_cache=False,
        ).logits
        targets = self._repeat(answer, n)[:, :, None]
        return logits.log_softmax(dim=-1).gather(2, targets).sum(dim=(1, 2))

    def _repeat(self, token_ids: tuple[int, ...], n: int) -> Tensor:
        return torch.tensor(token_ids, device=self.device).expand(n, -1)


def build_plain(
    folder: Path, questions: Sequence[VqaQuestion], *, device: str, question_start: QuestionStart, batch_size: int
) -> HfScorer:
    """Loads a checkpoint folder and builds its scorer; `--engine hf`."""
    blip = load_hf_blip(str(folder))
    return HfScorer(blip, questions, device=device, question_start=question_start, batch_size=batch_size)
