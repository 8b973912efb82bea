"""A checkpoint's tensors, complete and in the expected shapes, or an error that names what is wrong."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from faceattr.errors import ModelError
from faceattr.vqa.blip.network.architecture import BlipArchitecture, expected_tensors

# The vocabulary's matrix is stored once under either name, or twice; so is the bias of the output.
_TIED = {
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}
_SECOND_NAMES = frozenset(_TIED.values())
# Buffers that older versions of transformers saved: 0, 1, 2, ...
_WITHOUT_MEANING = "embeddings.position_ids"


def read_weights(files: Iterable[Path], architecture: BlipArchitecture, *, where: Path) -> dict[str, Tensor]:
    """Returns name -> tensor, as stored, of a checkpoint's safetensors files.

    Args:
        files: all files of the checkpoint.
        architecture: its sizes.
        where: its folder, for messages.

    Raises:
        ModelError: a file cannot be read; tensors are missing, unexpected, or have other shapes.
    """
    try:
        tensors = {name: tensor for path in files for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{where}: the weights cannot be loaded: {error}") from error
    return select_weights(tensors, architecture, where=where)


def select_weights(tensors: Mapping[str, Tensor], architecture: BlipArchitecture, *, where: Path) -> dict[str, Tensor]:
    """Returns the model's tensors out of all that a checkpoint contains; see `read_weights`."""
    found = {name: tensor for name, tensor in tensors.items() if not name.endswith(_WITHOUT_MEANING)}
    for name, second in _TIED.items():
        for here, there in ((name, second), (second, name)):
            if here not in found and there in found:
                found[here] = found[there]
    shapes = expected_tensors(architecture)
    missing = sorted(shapes.keys() - found.keys())
    if missing:
        raise ModelError(
            f"{where}: {len(missing)} tensors of the model are not in the weights, {_name_some(missing)}; "
            "the checkpoint is incomplete or has another architecture"
        )
    unexpected = sorted(found.keys() - shapes.keys() - _SECOND_NAMES)
    if unexpected:
        raise ModelError(
            f"{where}: {len(unexpected)} tensors in the weights are not of the model, {_name_some(unexpected)}; "
            "the checkpoint has another architecture than its config.json says"
        )
    for name, shape in shapes.items():
        if tuple(found[name].shape) != shape:
            raise ModelError(
                f"{where}: the weights cannot be loaded: {name!r} has the shape {list(found[name].shape)}, "
                f"config.json says {list(shape)}"
            )
        if not found[name].is_floating_point():
            raise ModelError(f"{where}: the weights cannot be loaded: {name!r} holds {found[name].dtype}, not floats")
    return {name: found[name] for name in shapes}


def _name_some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (" for some" if len(names) > 3 else "")
