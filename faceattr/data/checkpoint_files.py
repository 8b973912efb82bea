"""The files of a checkpoint in transformers' layout: which weights are read, and which config keys are ignored.

A checkpoint comes from somebody else. Its weights are safetensors files inside its folder and nothing else: an index
that names a pickle, or a file elsewhere, is refused. Its config defines the model's shape; it may not decide how
attention is computed or which code is loaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faceattr.errors import ModelError

HF_WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX_FILE = f"{HF_WEIGHTS_FILE}.index.json"
WEIGHT_PATTERNS = ("model*.safetensors", WEIGHTS_INDEX_FILE)
_MISSING = "is not there"
# Keys, at any depth of a config.json, by which transformers chooses kernels, code, or other files.
_OURS_TO_SAY = frozenset(
    [
        *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
        *("_attn_implementation_autoset", "experts_implementation", "_experts_implementation"),
        *("experts_implementation_internal", "_experts_implementation_internal"),
        *("auto_map", "custom_pipelines", "use_kernels", "kernel_config", "transformers_weights"),
        *("_name_or_path", "name_or_path"),
    ]
)


def find_weight_files(folder: Path, *, classes: tuple[str, ...]) -> tuple[Path, ...]:
    """Returns the safetensors files that contain a checkpoint's weights: one, or those that its index names, sorted.

    Args:
        folder: folder of the checkpoint.
        classes: transformers classes that read and save the whole checkpoint; for the advice if it has only pickles.

    Raises:
        ModelError: there are none, or the index names something other than a safetensors file inside the folder.
    """
    has_whole = (folder / HF_WEIGHTS_FILE).is_file()
    shards = _read_index(folder, has_whole=has_whole) if (folder / WEIGHTS_INDEX_FILE).is_file() else ()
    if has_whole:
        return (folder / HF_WEIGHTS_FILE,)
    if not shards:
        raise ModelError(f"{folder}: found no {HF_WEIGHTS_FILE}. {_advise(folder, classes)}")
    return shards


def clean_config(content: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Returns a config.json without the keys that a checkpoint may not decide.

    Args:
        content: the config as read.
        where: the file, for messages.

    Raises:
        ModelError: the weights are quantised, which needs special code to read.
    """
    if content.get("quantization_config") is not None:
        raise ModelError(f"{where}: the weights are quantised (quantization_config); use the unquantised checkpoint")
    return {key: _clean(value) for key, value in content.items() if key not in _OURS_TO_SAY}


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(each) for key, each in value.items() if key not in _OURS_TO_SAY}
    return [_clean(each) for each in value] if isinstance(value, list) else value


def _read_index(folder: Path, *, has_whole: bool) -> tuple[Path, ...]:
    path = folder / WEIGHTS_INDEX_FILE
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{path}: expected weight_map, from tensor names to file names; {type(error).__name__}: {error}"
        ) from error
    for name in names:
        problem = _describe_problem(folder, name)
        # A stale index beside the whole file does no harm if the files that it names do not exist.
        if problem and not (has_whole and problem == _MISSING):
            raise ModelError(
                f"{path}: names {name!r}, which {problem}; expected safetensors files inside the folder. Copy the "
                "checkpoint again from where it was published"
            )
    return tuple(folder / name for name in names)


def _describe_problem(folder: Path, name: Any) -> str | None:
    if not isinstance(name, str) or not name.endswith(".safetensors"):
        return "is not a safetensors file and is not loaded, since a pickle can run code"
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        return "is outside the folder"
    try:
        target = (folder / path).resolve(strict=True)
    except (OSError, ValueError):
        return _MISSING
    if not target.is_file():
        return "is not a file"
    if not any(target.is_relative_to(each) for each in _homes(folder)):
        return "is a link out of the folder"
    return None


def _homes(folder: Path) -> tuple[Path, ...]:
    """Folders that may contain the files: the folder and, for a snapshot in the hub's cache, its model's blobs."""
    home = folder.resolve()
    if home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--"):
        return (home, home.parent.parent / "blobs")
    return (home,)


def _advise(folder: Path, classes: tuple[str, ...]) -> str:
    """Returns how to convert pickles to safetensors, as exact commands: everything else in the folder is saved too."""
    home = folder.resolve()
    parts = home.parent.parent.name.split("--") if home.parent.name == "snapshots" else []
    is_hub = parts[:1] == ["models"] and len(parts) > 1
    source = "/".join(parts[1:]) if is_hub else str(folder)
    target = f"{folder.name if not is_hub else parts[-1]}-safetensors"
    saved = "; ".join(f"{name}.from_pretrained({source!r}).save_pretrained({target!r})" for name in classes)
    pull = (
        "A pull request of the model may contain them converted: see its page on the hub under Community, and pass its "
        "number N as --revision refs/pr/N. "
        if is_hub
        else ""
    )
    return (
        "Pickled weights (pytorch_model.bin) are not loaded, since they can run code. "
        f"{pull}If you trust them, convert them once: "
        f'`python -c "from transformers import {", ".join(classes)}; {saved}"`, and give the folder {target}'
    )
