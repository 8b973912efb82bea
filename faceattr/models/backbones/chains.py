"""The order in which a network runs its parts, as data: a new family of models is one row of a table.

    plain     stem -> layers.0 -> layers.1 -> ... -> tail                              vision transformers
    staged    stem -> stages.0.entry -> stages.0.layers.0 -> ... -> stages.1.entry -> ... -> tail     convolutional ones

Each layer is a block. What a stage begins with, such as a downsampling, belongs to the stage's first layer. A chain
without a stem begins with the entry of its first stage.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import nn

from faceattr.models.backbones.blocks import Block


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A family's forward pass up to its pooling. All names are dotted names in the module.

    Attributes:
        stem: what runs before the first layer.
        layers: the list of layers; within each stage if there are stages, "" for the stage itself.
        stages: the list of stages; "" for a plain chain.
        entry: what each stage begins with, within the stage; "" for nothing. A `ModuleList` is run in its order.
        tail: what runs after the last layer and before the pooling.
        stem_owns: further parameters, buffers and modules of the stem, such as rotary positions.
    """

    stem: tuple[str, ...] = ()
    layers: str = ""
    stages: str = ""
    entry: str = ""
    tail: tuple[str, ...] = ()
    stem_owns: tuple[str, ...] = ()


def chain_blocks(module: nn.Module, chain: Chain) -> tuple[Block, ...]:
    """Returns the blocks of a module whose forward pass is the chain."""
    links = list(_links(module, chain))
    stem = chain.stem
    if not stem:
        name, steps = links[0]
        stem, links[0] = steps[:-1], (name, steps[-1:])
    name, steps = links[-1]
    links[-1] = (name, (*steps, *chain.tail))
    return (
        Block("stem", stem, (*stem, *chain.stem_owns)),
        *(Block(name, steps, steps) for name, steps in links),
    )


def _links(module: nn.Module, chain: Chain) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields each layer's name, and its steps: the layer, after the entry of its stage if it is the first one."""
    if not chain.stages:
        yield from ((layer, (layer,)) for layer in _children(module, chain.layers))
        return
    for stage in _children(module, chain.stages):
        entry = _entry(module, f"{stage}.{chain.entry}") if chain.entry else ()
        for layer in _children(module, f"{stage}.{chain.layers}".rstrip(".")):
            yield layer, (*entry, layer)
            entry = ()


def _entry(module: nn.Module, name: str) -> tuple[str, ...]:
    found: Any = attrgetter(name)(module)
    return tuple(_children(module, name)) if isinstance(found, nn.ModuleList) else (name,)


def _children(module: nn.Module, name: str) -> list[str]:
    found: Any = attrgetter(name)(module)
    return [f"{name}.{child}" for child, _ in found.named_children()]
