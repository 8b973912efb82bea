"""Reads state dicts from safetensors or tensors-only pickles, which cannot run code, and loads them into modules."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from faceattr.errors import ModelError

# Keys under which training scripts save the state dict next to the optimizer's.
_WRAPPERS = ("model_state_dict", "state_dict", "model")
_NAMES_SHOWN = 3


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads tensors by name onto the CPU.

    Args:
        path: `.safetensors`, or a file of `torch.save`, which is read with `weights_only=True`. The latter may contain
            the state dict under `model_state_dict`, `state_dict` or `model`.

    Raises:
        ModelError: the file is missing, damaged, or contains more than tensors.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; expected weights as .safetensors, .pt, .pth or .bin")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: holds more than tensors and is not loaded, since it could run code ({error}); where it is "
            "trusted, save its state dict alone once: `torch.save(model.state_dict(), path)`"
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path}: the weights cannot be read: {error}") from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(
            f"{path}: expected a state dict (names to tensors), alone or under one of {', '.join(_WRAPPERS)}, found "
            f"{type(content).__name__}{_some(content) if isinstance(content, Mapping) else ''}"
        )
    # DistributedDataParallel puts `module.` before every name.
    is_wrapped = all(key.startswith("module.") for key in content)
    return {key.removeprefix("module.") if is_wrapped else key: value for key, value in content.items()}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Reads tensors by name onto the CPU.

    Raises:
        ModelError: the file is not safetensors, for example a pickle with that suffix.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: not readable as safetensors: {error}; copy the file again, or, if it is a pickle under another "
            "name, save the model again with save_pretrained"
        ) from error


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Loads tensors into a module; all names and shapes must match.

    Raises:
        ModelError: a tensor is missing, unknown, or has another shape.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    unknown = [name for name in tensors if name not in own]
    if missing or unknown:
        raise ModelError(f"{where}: the weights do not fit the model: missing{_some(missing)}, unknown{_some(unknown)}")
    reshaped = [name for name in own if own[name].shape != tensors[name].shape]
    if reshaped:
        name = reshaped[0]
        raise ModelError(
            f"{where}: {len(reshaped)} tensors have another shape than in the model; {name!r} is "
            f"{list(tensors[name].shape)}, expected {list(own[name].shape)}"
        )
    module.load_state_dict(tensors)


def _some(names: Sequence[str] | Mapping[str, object]) -> str:
    shown = ", ".join(list(names)[:_NAMES_SHOWN])
    more = f", ... ({len(names)} in all)" if len(names) > _NAMES_SHOWN else ""
    return f" {shown or 'none'}{more}"
