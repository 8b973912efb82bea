"""ContrastiveScorer: answers by how near their texts are to an image, whose embedding is all that an image costs.

With x the image's embedding and t_c that of answer c, both of length 1, a logit is l_c = scale * <x, t_c> + bias:

    CLIP     p_c = softmax_c(l_c) over the answers of an attribute, with the model's own scale; there is no bias.
             The answers always sum to 1, so that they have no mass.
    SigLIP   p_c = sigmoid(l_c), each answer by itself. If the answers of an attribute sum to more than 1, they are
             divided by their sum, so that their mass is min(1, sum).
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceattr.devices import default_dtype, resolve_device
from faceattr.errors import ConfigError
from faceattr.vqa.batching import HalvingBatcher
from faceattr.vqa.contrastive.modules import ContrastiveCheckpoint
from faceattr.vqa.contrastive.processor import ContrastivePreprocessing
from faceattr.vqa.contrastive.texts import Prompts, check_prompts, embed_answers, prompt_slices
from faceattr.vqa.finite import FiniteBatcher
from faceattr.vqa.folding import PIXEL_CENTRE, PIXEL_SCALE, fold_convolution
from faceattr.vqa.scorer import check_images
from faceattr.vqa.staging import build_staging

# A GPU waits for launches below this; a CPU gains nothing by more.
_CUDA_BATCH_SIZE, _OTHER_BATCH_SIZE = 128, 8


class ContrastiveScorer:
    """Scores the answers of a fixed list of attributes for any number of images.

    Attributes:
        image_size_px: side S of the square images that `score` takes.
        answer_slices: columns of each attribute in the scores.
        device: where the vision tower runs.
        dtype: its precision; embeddings are compared in float32.
    """

    def __init__(
        self,
        checkpoint: ContrastiveCheckpoint,
        prompts: Prompts,
        *,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Embeds the prompts on the CPU and moves the vision tower to the device.

        Args:
            checkpoint: from `load_contrastive`; it stays on the CPU and unchanged.
            prompts: for each attribute, for each of its answers, the prompts.
            device: `auto`, `cpu`, `cuda` or `cuda:<index>`.
            dtype: None for float16 on a GPU and float32 elsewhere.
            batch_size: images per forward pass, None for 128 on a GPU and 8 elsewhere; halved when memory runs out.

        Raises:
            ConfigError: a prompt or the device cannot be used.
        """
        self.device = resolve_device(device)
        self.dtype = dtype or default_dtype(self.device)
        self.image_size_px = checkpoint.preprocessing.framing.size_px
        self.answer_slices = prompt_slices(prompts)
        if batch_size is None:
            batch_size = _CUDA_BATCH_SIZE if self.device.type == "cuda" else _OTHER_BATCH_SIZE
        if batch_size < 1:
            raise ConfigError(f"batch_size: expected at least 1, found {batch_size}")
        check_prompts(checkpoint, prompts)
        self._checkpoint = checkpoint
        model = checkpoint.model
        self._texts = embed_answers(checkpoint, prompts).clone().to(self.device)
        self._scale = model.logit_scale.detach().exp().to(self.device)
        self._bias = model.logit_bias.detach().to(self.device) if checkpoint.family == "siglip" else 0.0
        self._staging = build_staging(self.device)
        batcher = HalvingBatcher(self._runner(self.dtype), batch_size, staging=self._staging)
        exact = None if self.dtype == torch.float32 else self._build_exact
        self._batcher = FiniteBatcher(batcher, exact, name=self._checkpoint.name)

    @property
    def batch_size(self) -> int:
        """Images per forward pass, after any halving."""
        return self._batcher.batch_size

    def score(self, images: np.ndarray) -> np.ndarray:
        """Computes log-likelihoods of all answers.

        Args:
            images: uint8 [n, S, S, 3], RGB, from `frame_rgb`.

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
        """Returns the function from uint8 images [n, S, S, 3] to scores [n, total answers], both on the device."""
        tower = VisionEmbedder(self._checkpoint).to(self.device, dtype)

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                embeddings = functional.normalize(tower(images).float(), dim=1)
                return self._compare(embeddings @ self._texts.T * self._scale + self._bias)

        return run

    def _compare(self, logits: Tensor) -> Tensor:
        """Logits [n, total answers] -> log-likelihoods."""
        if self._checkpoint.family == "clip":
            return torch.cat([logits[:, each].log_softmax(dim=1) for each in self.answer_slices], dim=1)
        logs = functional.logsigmoid(logits)
        sums = [logs[:, each].logsumexp(dim=1, keepdim=True).clamp(min=0.0) for each in self.answer_slices]
        return torch.cat([logs[:, each] - sum_ for each, sum_ in zip(self.answer_slices, sums, strict=True)], dim=1)


class VisionEmbedder(nn.Module):
    """The vision tower on uint8 pixels, with the normalisation folded into the patch projection."""

    def __init__(self, checkpoint: ContrastiveCheckpoint) -> None:
        super().__init__()
        self.vision = copy.deepcopy(checkpoint.model.vision_model)
        self.projection = copy.deepcopy(getattr(checkpoint.model, "visual_projection", None))
        embeddings = self.vision.embeddings
        embeddings.patch_embedding = _RawPatches(embeddings.patch_embedding, checkpoint.preprocessing)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, S, S, 3] -> embeddings [n, D], of any length."""
        pooled: Tensor = self.vision(pixel_values=images.permute(0, 3, 1, 2)).pooler_output
        return pooled if self.projection is None else self.projection(pooled)


class _RawPatches(nn.Conv2d):
    """A patch projection that takes raw pixels, 0 to 255, in its own precision."""

    def __init__(self, convolution: nn.Conv2d, preprocessing: ContrastivePreprocessing) -> None:
        side = convolution.kernel_size[0]
        super().__init__(3, convolution.out_channels, kernel_size=side, stride=side)
        bias = torch.zeros(self.out_channels) if convolution.bias is None else convolution.bias
        weight, bias = fold_convolution(convolution.weight, bias, mean=preprocessing.mean, std=preprocessing.std)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Raw pixels [n, 3, S, S] -> patches [n, D, grid, grid]."""
        return super().forward((pixels - PIXEL_CENTRE) / PIXEL_SCALE)
