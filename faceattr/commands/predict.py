"""`faceattr predict`: what a trained model says of a picture, or of every picture of a folder."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceattr.config import Precision, StorageConfig
from faceattr.data.fetch import fetch_folder
from faceattr.data.storage import StorageOptions
from faceattr.errors import ConfigError, ImageError
from faceattr.inference.detect import DEFAULT_MARGIN, FaceDetector, crop_face
from faceattr.inference.folder import find_images, find_namesakes, place_beside
from faceattr.inference.prediction import Prediction
from faceattr.inference.predictor import Predictor, load_rgb
from faceattr.inference.visualize import FoundFace, draw_faces, draw_prediction, save_picture
from faceattr.models.multitask import MultiAttributeModel


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """What is said of one file: a prediction, or the faces in it, or why it cannot be used."""

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
class Predict:
    """Says what a trained model sees in a picture, or in every picture of a folder."""

    model: str
    """A trained model: local folder, Hugging Face hub id, or s3://bucket/folder."""
    input: Path
    """A picture, or a folder of pictures (.jpg, .png and others, in any case)."""
    output: Path = Path("predictions")
    """Folder for pictures."""
    visualize: bool = False
    """Save every picture with its prediction, as <name>_pred.jpg."""
    confidence: bool = False
    """Show how sure the model is."""
    json: bool = False
    """Print JSON, one object a picture."""
    detect: bool = False
    """Find the faces of a picture, crop and score each, and save the picture with boxes as out_<name>."""
    margin: float = DEFAULT_MARGIN
    """What a crop adds around a face, as a share of its size, on every side."""
    batch_size: int | None = None
    """Pictures in one forward pass. Default: 64 on a GPU, 16 on a CPU."""
    precision: Precision = "float32"
    """Type that the network computes in. `bfloat16` is two to three times as fast where the processor has it;
    confidences then move by up to about 0.02."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:<number>."""
    revision: str | None = None
    """Commit, for hub ids."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"--batch-size: expected 1 or more, found {self.batch_size}")
        if not 0 <= self.margin <= 2:
            raise ConfigError(f"--margin: expected 0 to 2, found {self.margin}")

    def __call__(self) -> int:
        """Predicts; 1 if not a single picture could be used."""
        paths = find_images(self.input)
        detector = FaceDetector() if self.detect else None
        options = StorageOptions(endpoint_url=self.storage.endpoint_url, deadline_s=self.storage.deadline_s)
        model = MultiAttributeModel.from_pretrained(
            self.model, revision=self.revision, fetch_remote=lambda uri: fetch_folder(uri, options)
        )
        predictor = Predictor(model, device=self.device, batch_size=self.batch_size, precision=self.precision)
        pictures = self._find_faces(paths, predictor, detector) if detector else self._predict(paths, predictor)
        num_bad = num_all = 0
        for picture in pictures:
            print(json.dumps(picture.to_dict(self.confidence)) if self.json else picture.describe(self.confidence))
            num_all += 1
            num_bad += picture.error is not None
        if num_bad:
            print(f"{num_bad} of {num_all} pictures cannot be used; the reason stands with each", file=sys.stderr)
        return int(num_bad == num_all)

    def _predict(self, paths: list[Path], predictor: Predictor) -> Iterator[_Picture]:
        namesakes = find_namesakes(paths) if self.visualize else set()
        for path, found in zip(paths, predictor.stream(paths), strict=True):
            if isinstance(found, ImageError):
                yield _Picture(path=path, error=str(found))
                continue
            saved = None
            if self.visualize:
                # Photos a.jpg and a.png both become JPEGs: their names then keep the endings apart.
                suffix = f"_{path.suffix[1:]}_pred" if path in namesakes else "_pred"
                saved = place_beside(path, self.input, self.output, suffix=suffix).with_suffix(".jpg")
                save_picture(draw_prediction(load_rgb(path), found, confidence=self.confidence), saved)
            yield _Picture(path=path, prediction=found, saved=saved)

    def _find_faces(self, paths: list[Path], predictor: Predictor, detector: FaceDetector) -> Iterator[_Picture]:
        for path in paths:
            try:
                image = load_rgb(path)
            except ImageError as error:
                yield _Picture(path=path, error=str(error))
                continue
            faces = detector.detect(image)
            predictions = predictor.predict_images([crop_face(image, face, self.margin) for face in faces])
            found = [FoundFace(face, each) for face, each in zip(faces, predictions, strict=True)]
            saved = place_beside(path, self.input, self.output, prefix="out_")
            save_picture(draw_faces(image, found, confidence=self.confidence), saved)
            yield _Picture(path=path, faces=found, saved=saved)
