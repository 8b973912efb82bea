"""Which part of its images a packed run holds, by its record."""

from collections.abc import Sequence

from faceattr.data.images.face_view import FaceView, describe_faces
from faceattr.data.runs.version import RunRecord
from faceattr.errors import ConfigError


def read_face_view(record: RunRecord) -> FaceView | None:
    """Returns what a packed run holds of its images; None for all of it."""
    found = record.fingerprint.get("faces")
    return None if found is None else FaceView.from_dict(found["view"])


def read_shared_view(runs: Sequence[tuple[str, RunRecord]]) -> FaceView | None:
    """Returns what several packed runs hold of their images.

    Args:
        runs: address and record of each run.

    Raises:
        ConfigError: a face looks different in two of them.
    """
    (first, view), *others = [(uri, read_face_view(record)) for uri, record in runs]
    for uri, other in others:
        if other != view and (other is None or not other.shows_the_same(view)):
            raise ConfigError(
                f"{first} holds {describe_faces(view)}, {uri} {describe_faces(other)}; a model is to see the same part "
                "of every image. Pack both with the same --faces and --faces-margin"
            )
    return view
