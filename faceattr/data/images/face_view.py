"""Which part of an image a model sees: all of it, or its face, cropped or aligned."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from faceattr.config.shared import DEFAULT_MARGIN, MAX_MARGIN, MissingFace
from faceattr.errors import ConfigError

FaceMode = Literal["crop", "align"]


@dataclass(frozen=True, kw_only=True)
class FaceView:
    """How the face of an image is shown to a model; a packed run, and a model trained on it, record this.

    Attributes:
        mode: `crop` cuts out the square around the face; `align` turns it upright as well, by its eyes, nose and mouth.
        margin: share of the face's longer side that is kept on every side, from 0 to 2.
        missing: what becomes of an image without a face: `reject` it with a reason, or take the `whole` image.
    """

    mode: FaceMode
    margin: float = DEFAULT_MARGIN
    missing: MissingFace = "reject"

    def __post_init__(self) -> None:
        for name, value, kind in (("mode", self.mode, FaceMode), ("missing", self.missing, MissingFace)):
            if value not in get_args(kind):
                raise ConfigError(f"faces: {name} is {value!r}; expected {' or '.join(get_args(kind))}")
        if not 0 <= self.margin <= MAX_MARGIN:
            raise ConfigError(f"faces: the margin is {self.margin}; expected 0 to {MAX_MARGIN:g}")

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values; the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FaceView":
        """Reads what `to_dict` wrote.

        Raises:
            ConfigError: a value is unknown.
        """
        unknown = sorted(set(values) - {"mode", "margin", "missing"})
        if unknown or "mode" not in values:
            raise ConfigError(f"faces: expected mode, margin and missing, found {sorted(values)}")
        return cls(**values)

    def shows_the_same(self, other: "FaceView | None") -> bool:
        """Whether a face looks the same in both; what becomes of an image without one may differ."""
        return other is not None and (self.mode, self.margin) == (other.mode, other.margin)


def describe_faces(view: FaceView | None) -> str:
    """Describes what a model sees, in words."""
    if view is None:
        return "whole images"
    done = "cropped" if view.mode == "crop" else "aligned"
    return f"faces, {done} with a margin of {view.margin:g}"


def choose_view(
    trained: FaceView | None,
    *,
    faces: Literal["model", "none", "crop", "align"],
    margin: float | None,
    missing: Literal["model", "reject", "whole"],
) -> FaceView | None:
    """Returns what a prediction shows to a model; None for whole images.

    Args:
        trained: what the model was trained on.
        faces: `model` for the same as in training, or another choice.
        margin: None for the model's, or the usual one if it has none.
        missing: `model` for the model's, or `reject` if it has none.
    """
    mode = (trained.mode if trained is not None else "none") if faces == "model" else faces
    if mode == "none":
        return None
    known = trained or FaceView(mode=mode)
    return FaceView(
        mode=mode,
        margin=known.margin if margin is None else margin,
        missing=known.missing if missing == "model" else missing,
    )


def describe_other_view(trained: FaceView | None, used: FaceView | None) -> str | None:
    """Returns a warning if a model is shown something else than in its training, else None."""
    same = used is None if trained is None else trained.shows_the_same(used)
    if same:
        return None
    return (
        f"the model was trained on {describe_faces(trained)} and is shown {describe_faces(used)}: its figures of the "
        "training do not hold for these predictions"
    )
