"""What a trained model sees in the pictures of a folder, one after the other, drawn into copies of them if asked."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceattr.data.images import ImageLimits
from faceattr.errors import ImageError
from faceattr.inference.detect import FaceDetector, crop_face
from faceattr.inference.folder import find_namesakes, place_beside
from faceattr.inference.prediction import Prediction
from faceattr.inference.predictor import Predictor, load_rgb
from faceattr.inference.visualize import FoundFace, draw_faces, draw_prediction, save_picture


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is said of one file: a prediction, or the faces in it, or why it cannot be used.

    Attributes:
        path: the file.
        prediction: of the whole picture.
        faces: of a picture that was searched for faces.
        error: why it cannot be used.
        saved: the picture with what was found drawn in.
    """

    path: Path
    prediction: Prediction | None = None
    faces: list[FoundFace] | None = None
    error: str | None = None
    saved: Path | None = None

    def to_dict(self, confidence: bool) -> dict[str, Any]:
        """JSON values."""
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
        if self.saved is not None:
            values["saved"] = str(self.saved)
        return values

    def describe(self, confidence: bool) -> str:
        """A line for a person, and one for each face."""
        saved = f"  -> {self.saved}" if self.saved is not None else ""
        if self.error is not None:
            return f"{self.path}  error: {self.error}"
        if self.prediction is not None:
            return f"{self.path}  {self.prediction.describe(confidence=confidence)}{saved}"
        faces = self.faces or []
        lines = [f"{self.path}  {len(faces)} face{'' if len(faces) == 1 else 's'}{saved}"]
        for place, each in enumerate(faces, start=1):
            box = f"{each.face.left},{each.face.top} to {each.face.right},{each.face.bottom}"
            lines.append(f"  {place}. at {box}: {each.prediction.describe(confidence=confidence)}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures to look at, and what to draw.

    Attributes:
        paths: the files.
        root: the folder that the user named, or the one file.
        output: folder of drawn pictures; they lie in it as the files lie in the root.
        confidence: whether how sure the model is is drawn.
        limits: what an encoded image may be.
    """

    paths: list[Path]
    root: Path
    output: Path
    confidence: bool
    limits: ImageLimits = field(default_factory=ImageLimits)

    def predict(self, predictor: Predictor, *, visualize: bool) -> Iterator[Picture]:
        """One prediction a picture; `visualize` saves each as <name>_pred.jpg."""
        namesakes = find_namesakes(self.paths) if visualize else set()
        for path, found in zip(self.paths, predictor.stream(self.paths), strict=True):
            if isinstance(found, ImageError):
                yield Picture(path=path, error=str(found))
                continue
            saved = None
            if visualize:
                # Photos a.jpg and a.png both become JPEGs: their names then keep the endings apart.
                suffix = f"_{path.suffix[1:]}_pred" if path in namesakes else "_pred"
                saved = place_beside(path, self.root, self.output, suffix=suffix).with_suffix(".jpg")
                save_picture(draw_prediction(load_rgb(path, self.limits), found, confidence=self.confidence), saved)
            yield Picture(path=path, prediction=found, saved=saved)

    def find_faces(self, predictor: Predictor, detector: FaceDetector, *, margin: float) -> Iterator[Picture]:
        """The faces of each picture, cropped with a margin and scored; saves each picture as out_<name>."""
        for path in self.paths:
            try:
                image = load_rgb(path, self.limits)
            except ImageError as error:
                yield Picture(path=path, error=str(error))
                continue
            faces = detector.detect(image)
            predictions = predictor.predict_images([crop_face(image, face, margin) for face in faces])
            found = [FoundFace(face, each) for face, each in zip(faces, predictions, strict=True)]
            saved = place_beside(path, self.root, self.output, prefix="out_")
            save_picture(draw_faces(image, found, confidence=self.confidence), saved)
            yield Picture(path=path, faces=found, saved=saved)
