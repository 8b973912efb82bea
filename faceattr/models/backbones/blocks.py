"""A backbone as an ordered list of blocks, which is what freezing, layer-wise learning rates and caching need.

Block 0 is the stem. Boundary k lies before block k; boundary `num_blocks` lies after the pooling, so that what
crosses it are the pooled features. `run_from(run(images, 0, k), k)` is the whole backbone, for every boundary k.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from faceattr.errors import ConfigError
from faceattr.models.backbones.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """All that is needed to build a backbone again, without its weights and without the network.

    Attributes:
        name: as given to `build_backbone`.
        image_size: side of the images in px.
        args: further arguments of timm's constructor.
        hf_config: settings of a transformers `CLIPVisionConfig`, None for timm.
    """

    name: str
    image_size: int
    args: Mapping[str, Any] = field(default_factory=dict)
    hf_config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Block:
    """A run of steps that is frozen or trained as one.

    Attributes:
        name: for reports, for example `layer2.0`.
        steps: dotted names of the callables that take a tensor to the next one, in order; empty where the
            backbone can only be run as a whole.
        owns: dotted names, or beginnings of them, of its parameters and buffers.
    """

    name: str
    steps: tuple[str, ...]
    owns: tuple[str, ...]


class Backbone(nn.Module, ABC):
    """An image network without classifier.

    Attributes:
        module: the timm or transformers model.
        config: how to build it again.
        blocks: in forward order, stem first.
        num_features: length of the pooled features.
        preprocessing: how it wants its images.
        frozen_depth: number of leading blocks that do not train; set by `faceattr.models.freezing.freeze`.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        config: BackboneConfig,
        blocks: tuple[Block, ...],
        num_features: int,
        preprocessing: Preprocessing,
    ) -> None:
        super().__init__()
        self.module: Any = module
        self.config = config
        self.blocks = blocks
        self.num_features = num_features
        self.preprocessing = preprocessing
        self.frozen_depth = 0

    @property
    def num_blocks(self) -> int:
        """Number of blocks, the stem included."""
        return len(self.blocks)

    @property
    def can_split(self) -> bool:
        """Whether the blocks can be run one by one."""
        return all(block.steps for block in self.blocks)

    def block_of(self, name: str) -> int:
        """Index of the block that owns a parameter, buffer or module of `module`.

        What lies behind the last block (pooling with weights, a norm after it) counts to the last block.
        """
        for index, block in enumerate(self.blocks):
            if any(name == own or name.startswith(f"{own}.") for own in block.owns):
                return index
        return self.num_blocks - 1

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features.

        Args:
            images: float32 [n, 3, S, S], normalised.

        Returns:
            float32 [n, num_features].
        """
        return self.run_from(images, 0)

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """From boundary `start` to boundary `stop`; equal boundaries return `x` itself.

        Raises:
            ConfigError: the backbone cannot be run in parts.
        """
        if start == stop:
            return x
        if not self.can_split:
            if (start, stop) != (0, self.num_blocks):
                raise ConfigError(
                    f"backbone {self.config.name!r} ({type(self.module).__name__}) cannot be run in parts, only "
                    "ResNet, VisionTransformer, VGG, InceptionV3 and CLIPVisionModel can; split it at 0 or at 'all'"
                )
            return self.run_whole(x)
        for block in self.blocks[start:stop]:
            for step in block.steps:
                x = self.run_step(attrgetter(step)(self.module), x)
        return self.pool(x) if stop == self.num_blocks else x

    def run_from(self, x: Tensor, start: int) -> Tensor:
        """From boundary `start` to the pooled features; frozen blocks run without gradient."""
        frozen = max(start, self.frozen_depth)
        if not self.can_split and frozen != self.num_blocks:
            frozen = start
        with torch.no_grad():
            x = self.run(x, start, frozen)
        return self.run(x, frozen, self.num_blocks)

    def run_step(self, step: Any, x: Tensor) -> Tensor:
        """One step of a block."""
        return step(x)

    def run_whole(self, x: Tensor) -> Tensor:
        """Images to pooled features by the model's own forward."""
        return self.module(x)

    @abstractmethod
    def pool(self, x: Tensor) -> Tensor:
        """Output of the last block to pooled features [n, num_features]."""

    @abstractmethod
    def no_weight_decay(self) -> set[str]:
        """Names in `module` of embeddings, which are not pulled towards zero."""

    def train(self, mode: bool = True) -> "Backbone":
        """As in torch, but frozen blocks stay in eval mode, so that batch-norm statistics and dropout stand still."""
        super().train(mode)
        self.hold_frozen()
        return self

    def hold_frozen(self) -> None:
        """Puts the frozen blocks into eval mode."""
        if self.frozen_depth == self.num_blocks:
            self.module.eval()
            return
        for module in self.frozen_modules():
            module.eval()

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that belong to frozen blocks with all that is in them."""
        owned = [own for block in self.blocks[: self.frozen_depth] for own in block.owns]
        found = []
        for name, module in self.module.named_modules():
            keys = [f"{name}.{key}".lstrip(".") for key, _ in (*module.named_parameters(), *module.named_buffers())]
            if keys:
                frozen = all(self.block_of(key) < self.frozen_depth for key in keys)
            else:  # dropout and the like, which have a mode and no numbers
                frozen = any(name == own or name.startswith(f"{own}.") for own in owned)
            if frozen:
                found.append(module)
        return found
