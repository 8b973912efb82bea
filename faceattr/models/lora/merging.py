"""Finds layers with LoRA, and merges them for saving; imports no peft, whose import takes longer than torch's."""

import copy
from typing import Any, TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def has_lora(module: nn.Module) -> bool:
    """Whether some layer has LoRA that is not merged."""
    return any(_has_matrices(child) for child in module.modules())


def merge_lora(module: nn.Module) -> None:
    """Merges the LoRA products into the weights and restores the plain layers, in place; outputs do not change."""
    layers: list[tuple[str, Any]] = [(name, layer) for name, layer in module.named_modules() if _has_matrices(layer)]
    for name, layer in layers:
        layer.merge(safe_merge=True)
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())


def merged_copy(module: ModuleT) -> ModuleT:
    """Returns a copy with LoRA merged, or the module itself if it has no LoRA."""
    if not has_lora(module):
        return module
    merged = copy.deepcopy(module)
    merge_lora(merged)
    return merged


def _has_matrices(layer: nn.Module) -> bool:
    # peft's LoraLayer keeps its matrices in a ModuleDict of this name.
    return isinstance(getattr(layer, "lora_A", None), nn.ModuleDict)
