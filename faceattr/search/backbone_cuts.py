"""Facts about a network that a search needs before it starts: its blocks, and the activations between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.flop_counter import FlopCounterMode

from faceattr.models.freezing import freeze, resolve_depth
from faceattr.models.multitask import MultiAttributeModel


@dataclass(frozen=True, kw_only=True)
class BoundaryFacts:
    """Facts about one boundary between blocks.

    Attributes:
        depth: number of blocks before it.
        shape: shape of the activations of one image there.
        prefix_flops: FLOPs of the blocks before it, forward, one image.
        suffix_flops: FLOPs of the blocks and heads after it.
    """

    depth: int
    shape: tuple[int, ...]
    prefix_flops: int
    suffix_flops: int

    @property
    def num_values(self) -> int:
        """Number of values in one image's activations."""
        return int(torch.Size(self.shape).numel())

    @property
    def saved_share(self) -> float:
        """Share of a training step that a cache saves, if a backward pass costs twice as much as a forward pass."""
        return self.prefix_flops / max(1, self.prefix_flops + 3 * self.suffix_flops)


@dataclass(frozen=True, kw_only=True)
class BackboneCuts:
    """The boundaries of a network.

    Attributes:
        num_blocks: number of blocks of the backbone, including the stem.
        can_split: whether it can be cut between two blocks.
        boundaries: depth -> facts about the boundary.
    """

    num_blocks: int
    can_split: bool
    boundaries: Mapping[int, BoundaryFacts] = field(default_factory=dict)


def measure_cuts(model: MultiAttributeModel, depths: Sequence[int | str]) -> BackboneCuts:
    """Measures a model's boundaries at some freeze depths; runs one gray image through it.

    Args:
        model: a model on the CPU; its frozen blocks stay as they were, and it is left in eval mode.
        depths: depths as in `freeze.depth`; depths at which the model cannot be cut are left out.

    Raises:
        ConfigError: the backbone has fewer blocks.
    """
    backbone, before = model.backbone, model.backbone.frozen_depth
    resolved = sorted({resolve_depth(backbone, "all" if depth == "all" else int(depth)) for depth in depths})
    usable = [depth for depth in resolved if depth and (backbone.can_split or depth == backbone.num_blocks)]
    freeze(model.eval(), "all")
    side = backbone.preprocessing.size_px
    images = torch.zeros(1, 3, side, side)
    found = {}
    with torch.no_grad():
        for depth in usable:
            with FlopCounterMode(display=False) as prefix:
                activations = backbone.run(images, 0, depth)
            with FlopCounterMode(display=False) as suffix:
                model.apply_heads(backbone.run_from(activations, depth))
            found[depth] = BoundaryFacts(
                depth=depth,
                shape=tuple(activations.shape[1:]),
                prefix_flops=prefix.get_total_flops(),
                suffix_flops=suffix.get_total_flops(),
            )
    freeze(model, before)
    return BackboneCuts(num_blocks=backbone.num_blocks, can_split=backbone.can_split, boundaries=found)
