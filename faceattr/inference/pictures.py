"""Predicts the pictures of a folder one by one, and draws the predictions into copies if requested."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from faceattr.config import ImageLimitsConfig
from faceattr.errors import ConfigError, ImageError, escape
from faceattr.inference.faces import FaceFinder
from faceattr.inference.folder import find_namesakes, place_beside
from faceattr.inference.prediction import Prediction
from faceattr.inference.predictor import Predictor, load_rgb
from faceattr.inference.visualize import FoundFace, draw_faces, draw_prediction, save_picture


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Result for one file: a prediction, or the faces in it, or an error.

    Attributes:
        path: the file.
        prediction: prediction for the whole picture.
        faces: detected faces, if faces were searched for.
        error: why the file cannot be used.
        not_drawn: why the picture could not be drawn or saved; the result itself is still valid.
        saved: path of the picture with the result drawn in.
    """

    path: Path
    prediction: Prediction | None = None
    faces: list[FoundFace] | None = None
    error: str | None = None
    not_drawn: str | None = None
    saved: Path | None = None

    def to_dict(self, confidence: bool) -> dict[str, Any]:
        """Returns JSON values."""
        values: dict[str, Any] = {"path": str(self.path)}
        if self.error is not None:
            values["error"] = self.error
        if self.prediction is not None:
            values["attributes"] = self.prediction.to_dict(confidence=confidence)
        if self.faces is not None:
            values["faces"] = [
                {
                    "box": [each.face.left, each.face.top, each.face.right, each.face.bottom],
                    "face_score": each.face.score,
                    "attributes": each.prediction.to_dict(confidence=confidence),
                }
                for each in self.faces
            ]
        if self.not_drawn is not None:
            values["not_drawn"] = self.not_drawn
        if self.saved is not None:
            values["saved"] = str(self.saved)
        return values

    def describe(self, confidence: bool) -> str:
        """Returns a line of text, and one more per face."""
        path, saved = escape(self.path), f"  -> {escape(self.saved)}" if self.saved is not None else ""
        if self.not_drawn is not None:
            saved = f"  not drawn: {escape(self.not_drawn)}"
        if self.error is not None:
            return f"{path}  error: {escape(self.error)}"
        if self.prediction is not None:
            return f"{path}  {self.prediction.describe(confidence=confidence)}{saved}"
        faces = self.faces or []
        lines = [f"{path}  {len(faces)} face{'' if len(faces) == 1 else 's'}{saved}"]
        for place, each in enumerate(faces, start=1):
            box = f"{each.face.left},{each.face.top} to {each.face.right},{each.face.bottom}"
            lines.append(f"  {place}. at {box}: {each.prediction.describe(confidence=confidence)}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures to process, and what to draw.

    Attributes:
        paths: paths of the pictures.
        root: the folder given by the user, or the single file.
        output: folder of the drawn pictures, with the same subfolders as the root.
        confidence: whether to draw confidences.
        limits: limits on encoded images.
    """

    paths: list[Path]
    root: Path
    output: Path
    confidence: bool
    limits: ImageLimitsConfig = field(default_factory=ImageLimitsConfig)

    def predict(self, predictor: Predictor, *, visualize: bool) -> Iterator[Picture]:
        """Yields one prediction per picture; `visualize` saves each as <name>_pred.jpg."""
        namesakes = find_namesakes(self.paths) if visualize else set()
        for path, found in zip(self.paths, predictor.stream(self.paths), strict=True):
            if isinstance(found, ImageError):
                yield Picture(path=path, error=str(found))
                continue
            if not visualize:
                yield Picture(path=path, prediction=found)
                continue
            # a.jpg and a.png would both become a_pred.jpg: the names of their pictures keep the suffix.
            suffix = f"_{path.suffix[1:]}_pred" if path in namesakes else "_pred"
            target = place_beside(path, self.root, self.output, suffix=suffix).with_suffix(".jpg")
            problem = _save(partial(self._draw_prediction, path, found), target)
            yield Picture(path=path, prediction=found, not_drawn=problem, saved=None if problem else target)

    def find_faces(self, predictor: Predictor, finder: FaceFinder) -> Iterator[Picture]:
        """Yields the faces of each picture, cropped or aligned and scored; saves each picture as out_<name>."""
        for path in self.paths:
            try:
                image = load_rgb(path, self.limits)
            except ImageError as error:
                yield Picture(path=path, error=str(error))
                continue
            faces = finder.detect(image)
            predictions = predictor.predict_images([finder.show(image, face) for face in faces])
            found = [FoundFace(face, each) for face, each in zip(faces, predictions, strict=True)]
            target = place_beside(path, self.root, self.output, prefix="out_")
            problem = _save(partial(draw_faces, image, found, confidence=self.confidence), target)
            yield Picture(path=path, faces=found, not_drawn=problem, saved=None if problem else target)

    def _draw_prediction(self, path: Path, found: Prediction) -> Image.Image:
        return draw_prediction(load_rgb(path, self.limits), found, confidence=self.confidence)


def _save(draw: Callable[[], Image.Image], path: Path) -> str | None:
    """Draws and saves one picture; returns the error if that fails, so that the next picture is still processed."""
    try:
        save_picture(draw(), path)
    except (ConfigError, ImageError) as error:  # for example a name that is too long, or a file deleted meanwhile
        return str(error)
    except (ValueError, MemoryError) as error:  # Pillow's errors for sizes and texts that it cannot draw
        return f"{path}: {error or type(error).__name__}"
    return None
