"""PlainContrastive: the plain path through transformers, obviously correct and slow (`--engine hf`).

Images pass transformers' own image processor, prompts are embedded one by one, attention is computed step by step, and
probabilities are computed in double precision.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from faceattr.devices import place, resolve_device
from faceattr.vqa.batching import HalvingBatcher
from faceattr.vqa.contrastive.modules import ContrastiveCheckpoint, load_contrastive
from faceattr.vqa.contrastive.texts import Prompts, check_prompts, embed_texts, prompt_slices
from faceattr.vqa.scorer import check_images
from faceattr.vqa.staging import InPlace


class PlainContrastive:
    """Same interface as `ContrastiveScorer`, always in float32.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each attribute in the scores.
        device: where the model runs.
        dtype: float32.
    """

    dtype = torch.float32

    def __init__(
        self, checkpoint: ContrastiveCheckpoint, prompts: Prompts, *, device: str = "auto", batch_size: int = 8
    ) -> None:
        """Arguments as in `ContrastiveScorer`."""
        self.device = resolve_device(device)
        self.image_size_px = checkpoint.preprocessing.framing.size_px
        self.answer_slices = prompt_slices(prompts)
        check_prompts(checkpoint, prompts)
        self._family = checkpoint.family
        self._processor = checkpoint.image_processor
        self._answers = [self._embed(checkpoint, texts) for answers in prompts for texts in answers]
        self._model = place(checkpoint.model, self.device, self.dtype)
        self._batcher = HalvingBatcher(self._forward, batch_size, staging=InPlace())

    def score(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, S, S, 3] -> float32 [n, total answers], natural logarithms; see `ContrastiveScorer`."""
        check_images(images, self.image_size_px)
        if len(images) == 0:
            return np.empty((0, self.answer_slices[-1].stop), dtype=np.float32)
        return self._batcher(images)

    @staticmethod
    @torch.inference_mode()
    def _embed(checkpoint: ContrastiveCheckpoint, texts: Sequence[str]) -> Tensor:
        total = torch.cat([embed_texts(checkpoint, [text]) for text in texts]).sum(dim=0)
        return total / total.norm()

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        pixels = self._processor(
            images=list(images.numpy()),
            do_resize=False,
            do_center_crop=False,
            input_data_format="channels_last",
            return_tensors="pt",
        )["pixel_values"].to(self.device)
        features = self._model.get_image_features(pixel_values=pixels).pooler_output
        features = (features / features.norm(dim=1, keepdim=True)).cpu()
        logits = (
            torch.stack([features @ answer for answer in self._answers], dim=1) * self._model.logit_scale.exp().cpu()
        )
        if self._family == "clip":
            weights = logits.double().exp()
        else:
            weights = torch.sigmoid((logits + self._model.logit_bias.cpu()).double())
        return torch.cat([self._normalise(weights[:, each]) for each in self.answer_slices], dim=1).log().float()

    def _normalise(self, weights: Tensor) -> Tensor:
        total = weights.sum(dim=1, keepdim=True)
        return weights / (total if self._family == "clip" else total.clamp(min=1.0))


def build_plain_contrastive(folder: Path, prompts: Prompts, *, device: str, batch_size: int) -> PlainContrastive:
    """Loads a checkpoint folder and builds its scorer; `--engine hf`."""
    checkpoint = load_contrastive(folder, attention="eager")
    return PlainContrastive(checkpoint, prompts, device=device, batch_size=batch_size)
