"""The view of an image that a model sees: its face, cropped or aligned, or all of it.

Packing and prediction share this, so that a model is shown in use what it was trained on.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from faceattr.data.images.face_view import FaceView
from faceattr.data.label_columns import FACE_FIELDS
from faceattr.errors import ImageError
from faceattr.inference.align import align_face
from faceattr.inference.detect import Detector, Face, FaceDetector, crop_face

NO_FACE = "no_face"
"""Status of a row whose image has no face. In addition to `faceattr.data.images.decode.REASONS`."""


@dataclass(frozen=True)
class SeenFace:
    """What a model sees of an image.

    Attributes:
        pixels: RGB uint8 [h, w, 3].
        face: the face in px of the image; None if there is none and the image is shown whole.
    """

    pixels: np.ndarray
    face: Face | None


class FaceFinder:
    """Finds the face of an image: of several, the largest.

    Args:
        view: how the face is shown.
        detector: finds faces; by default that of the extra `faces`.

    Raises:
        ConfigError: the extra is not installed, or cannot align.
    """

    def __init__(self, view: FaceView, detector: Detector | None = None) -> None:
        self.view = view
        self._detector = detector or FaceDetector(points=view.mode == "align", needed_by=f"--faces {view.mode}")

    def find(self, image: np.ndarray) -> SeenFace:
        """Returns what a model sees of RGB uint8 [H, W, 3].

        Raises:
            ImageError: there is no face, and the view rejects such images.
        """
        faces = self._detector.detect(image)
        if faces:
            face = max(faces, key=lambda each: (each.area, each.score))
            return SeenFace(self.show(image, face), face)
        if self.view.missing == "reject":
            raise ImageError(NO_FACE, "no face was found; --faces-missing whole takes such images whole")
        return SeenFace(image, None)

    def show(self, image: np.ndarray, face: Face) -> np.ndarray:
        """Returns one face of RGB uint8 [H, W, 3] as the model sees it, uint8 [h, w, 3]."""
        show = crop_face if self.view.mode == "crop" else align_face
        return show(image, face, self.view.margin)

    def detect(self, image: np.ndarray) -> list[Face]:
        """Returns all faces of an image; see `Detector`."""
        return self._detector.detect(image)


def view_each(
    decoded: Iterable[np.ndarray | ImageError], view: FaceView | None
) -> Iterator[tuple[np.ndarray | None, SeenFace | ImageError]]:
    """Yields each image, None if it could not be decoded, with what a model sees of it or why it sees nothing.

    Args:
        decoded: RGB uint8 [H, W, 3], or the reason why an image could not be decoded.
        view: how a face is shown; None shows all of every image.

    Raises:
        ConfigError: as `FaceFinder` does.
    """
    finder = None if view is None else process_face_finder(view)
    for image in decoded:
        if isinstance(image, ImageError):
            yield None, image
            continue
        try:
            seen: SeenFace | ImageError = SeenFace(image, None) if finder is None else finder.find(image)
        except ImageError as fault:
            seen = fault
        yield image, seen


def face_columns(faces: Sequence[Face | None]) -> dict[str, pa.Array]:
    """Returns the columns of `faceattr.data.label_columns.FACE_FIELDS` for the faces of a table's rows."""
    boxes = [None if face is None else [face.left, face.top, face.right, face.bottom] for face in faces]
    scores = [None if face is None else face.score for face in faces]
    return {field.name: pa.array(each, field.type) for field, each in zip(FACE_FIELDS, (boxes, scores), strict=True)}


@functools.lru_cache(maxsize=4)
def process_face_finder(view: FaceView) -> FaceFinder:
    """Returns this process's finder for a view. Raises ConfigError as `FaceFinder` does."""
    return FaceFinder(view)
