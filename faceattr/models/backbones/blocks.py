"""A backbone as an ordered list of blocks, as needed for freezing, layer-wise learning rates and caching.

Block 0 is the stem. Boundary k is before block k; boundary `num_blocks` is after the pooling, so pooled features
cross it. `run_from(run(images, 0, k), k)` is the whole backbone, for every boundary k.
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
from faceattr.models.backbones.recompute import recompute


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """What is needed to rebuild a backbone without its weights and without network access.

    Attributes:
        name: name as given to `build_backbone`.
        image_size: side of the images in px.
        args: further arguments of timm's constructor.
        hf_config: settings of a vision tower of transformers, with its `model_type`; without one it is a
            `CLIPVisionConfig`. None for timm.
    """

    name: str
    image_size: int
    args: Mapping[str, Any] = field(default_factory=dict)
    hf_config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Block:
    """Consecutive steps that are frozen or trained together.

    Attributes:
        name: name in reports, for example `layer2.0`.
        steps: dotted names of the callables that are applied to the tensor in order; empty if the backbone can only be
            run as a whole.
        owns: dotted names, or prefixes of them, of its parameters and buffers.
    """

    name: str
    steps: tuple[str, ...]
    owns: tuple[str, ...]


class Backbone(nn.Module, ABC):
    """An image network without a classifier.

    Attributes:
        module: the timm or transformers model.
        config: how to rebuild it.
        blocks: its blocks in forward order, stem first.
        num_features: length of the pooled features.
        preprocessing: image preprocessing that it expects.
        frozen_depth: number of leading blocks that do not train; set by `faceattr.models.freezing.freeze`.
        frozen_norms: whether no batch norm trains; set by `faceattr.models.backbones.modes`.
        recomputes: whether gradients compute the activations inside of blocks again; set there too.
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
        self.frozen_norms = False
        self.recomputes = False

    @property
    def num_blocks(self) -> int:
        """Number of blocks, including the stem."""
        return len(self.blocks)

    @property
    def can_split(self) -> bool:
        """Whether the blocks can be run one by one."""
        return all(block.steps for block in self.blocks)

    def block_of(self, name: str) -> int:
        """Returns the index of the block that owns a parameter, buffer or module of `module`.

        What comes after the last block (pooling with weights, a norm after it) belongs to the last block.
        """
        for index, block in enumerate(self.blocks):
            if any(name == own or name.startswith(f"{own}.") for own in block.owns):
                return index
        return self.num_blocks - 1

    def forward(self, images: Tensor) -> Tensor:
        """Returns the pooled features.

        Args:
            images: float32 [n, 3, S, S], normalised.

        Returns:
            float32 [n, num_features].
        """
        return self.run_from(images, 0)

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Runs the blocks from boundary `start` to boundary `stop`; equal boundaries return `x` itself.

        Raises:
            ConfigError: the backbone cannot be run in parts.
        """
        if start == stop:
            return x
        if not self.can_split:
            if (start, stop) != (0, self.num_blocks):
                raise ConfigError(
                    f"backbone {self.config.name!r} ({type(self.module).__name__}) cannot be run in parts, since the "
                    "order of its layers is not known here; split it at 0 or at 'all'"
                )
            return self.run_whole(x)
        context = self.step_context(x)
        recomputes = self.recomputes and self.training and torch.is_grad_enabled()
        for block in self.blocks[start:stop]:
            if recomputes:
                x = recompute(self._norms_of(block), self._run_block, block, x, context)
            else:
                x = self._run_block(block, x, context)
        return self.pool(x) if stop == self.num_blocks else x

    def _norms_of(self, block: Block) -> list[nn.Module]:
        steps = [attrgetter(step)(self.module) for step in block.steps]
        return [norm for step in steps if isinstance(step, nn.Module) for norm in _find_batch_norms(step)]

    def _run_block(self, block: Block, x: Tensor, context: Any) -> Tensor:
        for step in block.steps:
            x = self.run_step(attrgetter(step)(self.module), x, context)
        return x

    def run_from(self, x: Tensor, start: int) -> Tensor:
        """Runs the blocks from boundary `start` to the pooled features; frozen blocks run without gradients."""
        frozen = max(start, self.frozen_depth)
        if not self.can_split and frozen != self.num_blocks:
            frozen = start
        with torch.no_grad():
            x = self.run(x, start, frozen)
        return self.run(x, frozen, self.num_blocks)

    def step_context(self, x: Tensor) -> Any:
        """Returns what layers take in addition to their input, such as rotary positions; computed once a `run`."""
        del x
        return None

    def run_step(self, step: Any, x: Tensor, context: Any) -> Tensor:
        """Runs one step of a block; `context` is what `step_context` returned."""
        del context
        return step(x)

    def run_whole(self, x: Tensor) -> Tensor:
        """Maps images to pooled features by the model's own forward method."""
        return self.module(x)

    @abstractmethod
    def pool(self, x: Tensor) -> Tensor:
        """Maps the output of the last block to pooled features [n, num_features]."""

    @abstractmethod
    def no_weight_decay(self) -> set[str]:
        """Returns the names in `module` of embeddings, to which weight decay is not applied."""

    def train(self, mode: bool = True) -> "Backbone":
        """Sets the mode as in torch, but frozen blocks stay in eval mode: no batch-norm updates, no dropout."""
        super().train(mode)
        self.hold_frozen()
        return self

    def hold_frozen(self) -> None:
        """Sets the frozen blocks and norms to eval mode."""
        if self.frozen_depth == self.num_blocks:
            self.module.eval()
            return
        for module in [*self.frozen_modules(), *(self.batch_norms() if self.frozen_norms else ())]:
            module.eval()

    def batch_norms(self) -> list[nn.Module]:
        """Returns the batch norms of all blocks."""
        return _find_batch_norms(self.module)

    def frozen_modules(self) -> list[nn.Module]:
        """Returns the modules that belong entirely to frozen blocks."""
        owned = [own for block in self.blocks[: self.frozen_depth] for own in block.owns]
        found = []
        for name, module in self.module.named_modules():
            keys = [f"{name}.{key}".lstrip(".") for key, _ in (*module.named_parameters(), *module.named_buffers())]
            if keys:
                frozen = all(self.block_of(key) < self.frozen_depth for key in keys)
            else:  # dropout and the like have a mode but no parameters
                frozen = any(name == own or name.startswith(f"{own}.") for own in owned)
            if frozen:
                found.append(module)
        return found


def _find_batch_norms(module: nn.Module) -> list[nn.Module]:
    return [each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
