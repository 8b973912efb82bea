"""What a checkpoint's image processor makes of an image, as one square; read without torch and transformers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.errors import ModelError
from faceattr.vqa.decoder.families import DecoderFamily

# Pillow's numbers of the filters that are reproduced here.
_MODES = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
# Side of the square for models that take any resolution: InternVL's, and 256 tokens of Qwen2-VL.
_FREE_SIZE_PX = 448
_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, kw_only=True)
class SquareImage:
    """How an image becomes a square; the aspect ratio is not kept.

    Attributes:
        size_px: side S of the square.
        mode: the filter, antialiased: `bilinear`, `bicubic` or `lanczos`.
        longest_edge_px: the longer side is first brought to this length, as Idefics3 and SmolVLM do it; None for one
            step. Not to the four tiles a side that they are published with, which one tile would undo.
    """

    size_px: int
    mode: str
    longest_edge_px: int | None = None

    @property
    def processor_size(self) -> dict[str, Any]:
        """The setting by which the processor of a family with two steps makes this square; none for others."""
        return {} if self.longest_edge_px is None else {"size": {"longest_edge": self.longest_edge_px}}


def read_square(folder: Path, family: DecoderFamily) -> SquareImage:
    """Reads how the folder's image processor makes an image of one tile.

    Raises:
        ModelError: the settings are not there, or mean something that is not reproduced here.
    """
    where, given = _read_settings(folder)
    settings = {**family.defaults, **given}
    mode = _MODES.get(settings["resample"])
    if mode is None or settings.get("do_resize") is False:
        raise ModelError(
            f"{where}: expected do_resize true and resample 1 (Lanczos), 2 (bilinear) or 3 (bicubic), found "
            f"{settings.get('do_resize')} and {settings['resample']}"
        )
    try:
        if "max_image_size" in settings:
            size_px = settings["max_image_size"]["longest_edge"]
            longest = min(size_px, settings["size"]["longest_edge"])
            return SquareImage(size_px=size_px, mode=mode, longest_edge_px=longest)
        if "patch_size" in settings:
            return SquareImage(size_px=_choose_size(settings), mode=mode)
        size = settings["size"]
        if size["height"] != size["width"]:
            raise ModelError(f"{where}: expected a square `size`, found {size}")
        return SquareImage(size_px=size["height"], mode=mode)
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{where}: `size` does not have the form that this family's image processor reads: {error!r}"
        ) from error


def _choose_size(settings: Mapping[str, Any]) -> int:
    """Returns a side in whole merged patches, within the number of pixels that the processor allows."""
    unit = settings["patch_size"] * settings["merge_size"]
    least = settings.get("min_pixels") or settings["size"]["shortest_edge"]
    most = settings.get("max_pixels") or settings["size"]["longest_edge"]
    sides = [side for side in range(unit, _FREE_SIZE_PX * 8, unit) if least <= side**2 <= most]
    return min(sides, key=lambda side: abs(side - _FREE_SIZE_PX), default=unit)


def _read_settings(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Returns the file and the image processor's settings; a newer layout has them inside the processor's file."""
    for name in _FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ModelError(f"{path}: not readable as JSON: {error}") from error
        found = content.get("image_processor") if name == _FILES[0] else content
        if isinstance(found, dict):
            return path, found
    raise ModelError(
        f"{folder}: expected the image processor's settings in {' or '.join(_FILES)}; copy them from where the model "
        "was published"
    )
