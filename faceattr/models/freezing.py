"""Freezing blocks of a backbone, and splitting a model at a block boundary into a frozen prefix and the rest.

A freeze depth d counts leading blocks, where block 0 is the stem: blocks 0 to d - 1 do not train.

    0              nothing is frozen
    1              the stem
    k              the stem and the k - 1 blocks after it
    -1 or "all"    the whole backbone with its pooling, the same as `num_blocks`; the heads always train

A frozen block gets no gradients and runs in eval mode even while the model trains, so its batch-norm statistics do
not change and its dropout is off. So for every split depth k <= d, `prefix, suffix = split_at(model, k)` gives
`suffix(prefix(images)) == model(images)` bit for bit, and the prefix's output can be computed once and cached.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from faceattr.errors import ConfigError
from faceattr.models.backbones.blocks import Backbone
from faceattr.models.lora.merging import has_lora
from faceattr.models.multitask import MultiAttributeModel

FreezeDepth = int | Literal["all"]


def resolve_depth(backbone: Backbone, depth: FreezeDepth) -> int:
    """Converts a freeze or split depth into a number of blocks from 0 to `num_blocks`.

    Raises:
        ConfigError: the depth exceeds the number of blocks, or is a negative number other than -1.
    """
    if depth in ("all", -1):
        return backbone.num_blocks
    if not isinstance(depth, int) or not 0 <= depth <= backbone.num_blocks:
        raise ConfigError(
            f"freeze depth {depth!r}: {backbone.config.name} has {backbone.num_blocks} blocks "
            f"({backbone.blocks[0].name} to {backbone.blocks[-1].name}); expected 0 to {backbone.num_blocks}, or -1 or "
            "'all' for the whole backbone"
        )
    return depth


def freeze(model: MultiAttributeModel, depth: FreezeDepth) -> None:
    """Freezes the first `depth` blocks and makes all others trainable. Replaces an earlier freeze.

    With LoRA, the backbone's own weights stay frozen whatever the depth, and only the LoRA matrices beyond it train.

    Raises:
        ConfigError: see `resolve_depth`.
    """
    backbone = model.backbone
    backbone.frozen_depth = resolve_depth(backbone, depth)
    lora_only = has_lora(backbone)
    norms = {id(weight) for norm in backbone.batch_norms() for weight in norm.parameters() if backbone.frozen_norms}
    for name, parameter in backbone.module.named_parameters():
        trains = backbone.block_of(name) >= backbone.frozen_depth and (not lora_only or "lora_" in name)
        trains = trains and id(parameter) not in norms
        parameter.requires_grad_(trains)
        if not trains:
            # Otherwise an optimizer would keep using a gradient from the previous stage.
            parameter.grad = None
    backbone.train(model.training)


class FrozenPrefix(nn.Module):
    """Maps images to the activations at a boundary, in eval mode and without gradients.

    Shares its weights with the model.
    """

    def __init__(self, backbone: Backbone, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self._backbone = backbone
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Returns the activations at the boundary.

        Args:
            images: float32 [n, 3, S, S], normalised.

        Returns:
            [n, ...] in the shape of the boundary; [n, num_features] if the whole backbone is frozen.

        Raises:
            ConfigError: the model has since been frozen to a smaller depth.
        """
        if self._backbone.frozen_depth < self.depth:
            raise ConfigError(
                f"split depth {self.depth}: only {self._backbone.frozen_depth} blocks of the model are frozen now; "
                "split it again after each change of the freeze depth"
            )
        with torch.no_grad():
            return self._backbone.run(images, 0, self.depth)

    def train(self, mode: bool = True) -> "FrozenPrefix":
        """Stays in eval mode."""
        del mode
        self.training = False
        self._backbone.hold_frozen()
        return self

    def compute_weights_id(self) -> str:
        """Returns a cache key: SHA-256 of names, shapes, dtypes and values of the tensors that the activations use."""
        total = hashlib.sha256(f"{self._backbone.config}\0{self.depth}\n".encode())
        for name, tensor in sorted(self._backbone.module.state_dict().items()):
            if self._backbone.block_of(name) < self.depth:
                total.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\n".encode())
                total.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        return total.hexdigest()


class Suffix(nn.Module):
    """Maps the activations at a boundary to the outputs per attribute. Shares its weights with the model.

    Its parameters are the blocks after the boundary and the heads, so that the prefix can stay on the CPU.
    """

    def __init__(self, model: MultiAttributeModel, depth: int) -> None:
        super().__init__()
        self.depth = depth
        backbone = model.backbone
        # In a tuple the model is not registered as a submodule, and deepcopy still copies it.
        self._model = (model,)
        self.blocks = nn.ModuleDict()
        if depth < backbone.num_blocks:
            for name, module in _topmost(backbone, lambda key: backbone.block_of(key) >= depth):
                self.blocks[name.replace(".", "-") or "backbone"] = module
        self.heads = model.heads
        self.train(model.training)

    def forward(self, activations: Tensor) -> dict[str, Tensor]:
        """Maps the prefix's output to attribute name -> float32 [n, outputs]."""
        model = self._model[0]
        return model.apply_heads(model.backbone.run_from(activations, self.depth))

    def train(self, mode: bool = True) -> "Suffix":
        """Sets the model's mode; frozen blocks stay in eval mode."""
        self.training = mode
        self._model[0].train(mode)
        return self


def split_at(model: MultiAttributeModel, depth: FreezeDepth) -> tuple[FrozenPrefix, Suffix]:
    """Cuts a model at a boundary so that `suffix(prefix(images))` equals `model(images)` bit for bit.

    Args:
        model: frozen to at least `depth`; both parts share its weights.
        depth: number of blocks in the prefix. `all` includes the pooling, so that the prefix returns pooled features.

    Raises:
        ConfigError: the blocks before the boundary are not frozen, or the backbone cannot be run in parts.
    """
    backbone = model.backbone
    resolved = resolve_depth(backbone, depth)
    if resolved > backbone.frozen_depth:
        raise ConfigError(
            f"split depth {resolved}: only {backbone.frozen_depth} of {backbone.num_blocks} blocks are frozen, and a "
            f"prefix that trains cannot be computed once; freeze(model, {resolved}) first"
        )
    if not backbone.can_split and resolved not in (0, backbone.num_blocks):
        raise ConfigError(
            f"split depth {resolved}: {backbone.config.name} ({type(backbone.module).__name__}) cannot be run in "
            "parts; expected 0 or 'all'"
        )
    return FrozenPrefix(backbone, resolved), Suffix(model, resolved)


def _topmost(backbone: Backbone, wanted: Callable[[str], bool]) -> list[tuple[str, nn.Module]]:
    """Returns the outermost modules whose tensors are all wanted, with their names; none is inside another."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in backbone.module.named_modules():
        if any(not above or name.startswith(f"{above}.") for above, _ in found):
            continue
        keys = [f"{name}.{key}".lstrip(".") for key, _ in (*module.named_parameters(), *module.named_buffers())]
        if keys and all(wanted(key) for key in keys):
            found.append((name, module))
    return found


@dataclass(frozen=True)
class BlockReport:
    """Parameters of one block or head.

    Attributes:
        name: `0 stem`, `1 layer1.0`, ..., `head hat`.
        num_trained: number of trainable parameters.
        num_frozen: number of frozen parameters.
    """

    name: str
    num_trained: int
    num_frozen: int


@dataclass(frozen=True)
class TrainableReport:
    """Number of trainable and frozen parameters per block.

    Attributes:
        backbone: name of the backbone.
        frozen_depth: number of frozen blocks.
        rows: one per block, then one per head.
    """

    backbone: str
    frozen_depth: int
    rows: tuple[BlockReport, ...]

    @property
    def num_trained(self) -> int:
        """Number of trainable parameters."""
        return sum(row.num_trained for row in self.rows)

    @property
    def num_frozen(self) -> int:
        """Number of frozen parameters."""
        return sum(row.num_frozen for row in self.rows)

    def __str__(self) -> str:
        total = BlockReport(f"{self.backbone}, freeze depth {self.frozen_depth}", self.num_trained, self.num_frozen)
        width = max(len(row.name) for row in (*self.rows, total))
        lines = [f"{'block':<{width}}  {'trained':>13}  {'frozen':>13}"]
        lines += [f"{row.name:<{width}}  {row.num_trained:>13,}  {row.num_frozen:>13,}" for row in (*self.rows, total)]
        return "\n".join(lines)


def describe_trainable(model: MultiAttributeModel) -> TrainableReport:
    """Counts the trainable and frozen parameters of every block and head."""
    backbone = model.backbone
    blocks: list[list[nn.Parameter]] = [[] for _ in backbone.blocks]
    for name, parameter in backbone.module.named_parameters():
        blocks[backbone.block_of(name)].append(parameter)
    named = {f"{i} {block.name}": blocks[i] for i, block in enumerate(backbone.blocks)}
    named |= {f"head {name}": list(model.head(name).parameters()) for name in model.attributes.names}
    rows = tuple(
        BlockReport(
            name,
            sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
            sum(parameter.numel() for parameter in parameters if not parameter.requires_grad),
        )
        for name, parameters in named.items()
    )
    return TrainableReport(backbone.config.name, backbone.frozen_depth, rows)
