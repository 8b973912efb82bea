"""`faceattr predict`: a trained model's predictions for a picture, or for every picture in a folder."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from faceattr.config import ImageLimitsConfig, PrecisionChoice, StorageConfig
from faceattr.config.shared import DEFAULT_MARGIN, MAX_MARGIN
from faceattr.data.formats.json_text import encode_json
from faceattr.data.images.face_view import FaceView, choose_view, describe_other_view
from faceattr.data.stores.addresses import local_path
from faceattr.errors import ConfigError
from faceattr.inference.detect import FaceDetector
from faceattr.inference.faces import FaceFinder
from faceattr.inference.folder import find_images


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Predicts the attributes of a picture, or of every picture in a folder, with a trained model."""

    model: str
    """A trained model: a local folder, a Hugging Face hub id, or s3://bucket/folder."""
    input: Annotated[Path, tyro.conf.arg(aliases=["--images"])]
    """A picture, or a folder of pictures (.jpg, .png and others, in upper or lower case, or without extension)."""
    output: Path = Path("predictions")
    """Folder for pictures that are written."""
    visualize: bool = False
    """Save every picture with its prediction, as <name>_pred.jpg."""
    confidence: bool = False
    """Show the confidence of each prediction."""
    json: bool = False
    """Print JSON, one object per picture."""
    detect: bool = False
    """Find the faces in a picture, crop and score each one, and save the picture with boxes as out_<name>."""
    faces: Literal["model", "none", "crop", "align"] = "model"
    """What the model is shown of a picture: `model` the same as in its training, or, whatever that was, `none` all of
    it, `crop` its largest face, `align` the same turned upright (extra `faces`). With --detect, whether each face is
    cropped or aligned. A choice that differs from the training is warned of."""
    faces_missing: Literal["model", "reject", "whole"] = "model"
    """What becomes of a picture without a face: `reject` it, or show the `whole` picture. `model`: as in its
    training."""
    margin: float | None = None
    """Margin on every side of a face, as a share of the face's size. Default: the model's, else 0.4."""
    batch_size: int | None = None
    """Pictures per forward pass. Default: 64 on a GPU, 16 on a CPU."""
    precision: PrecisionChoice = "auto"
    """Data type of the network's computation. auto: bfloat16 on GPUs from Ampere on, else float32. bfloat16 changes
    confidences by up to about 0.02; on CPUs it pays only where they have instructions for it. On a GPU, float32 uses
    TF32."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:<number>."""
    revision: str | None = None
    """Commit of a hub model."""
    decode: ImageLimitsConfig = field(default_factory=ImageLimitsConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"--batch-size: expected 1 or more, found {self.batch_size}")
        if self.margin is not None and not 0 <= self.margin <= MAX_MARGIN:
            raise ConfigError(f"--margin: expected 0 to {MAX_MARGIN:g}, found {self.margin}")
        if self.detect and self.faces == "none":
            raise ConfigError("--detect scores faces, --faces none whole pictures; give one of them")

    def __call__(self) -> int:
        """Predicts; returns 1 if no picture could be used, or if a picture that should be drawn could not be."""
        source, output = local_path(self.input, "--input"), local_path(self.output, "--output")
        paths, others = find_images(source)
        if self.detect:
            FaceDetector()  # the extra is installed, or the command ends before the model is loaded
        # Late: torch and the packages that need it take seconds to import; a wrong flag or path is reported before.
        from faceattr.inference.pictures import Pictures  # noqa: PLC0415
        from faceattr.inference.predictor import Predictor  # noqa: PLC0415
        from faceattr.models.multitask import MultiAttributeModel  # noqa: PLC0415

        options = self.storage
        model = MultiAttributeModel.from_pretrained(self.model, revision=self.revision, storage=options)
        view = choose_view(model.faces, faces=self.faces, margin=self.margin, missing=self.faces_missing)
        if self.detect and view is None:  # trained on whole images, such as data sets of faces hold
            view = FaceView(mode="crop", margin=DEFAULT_MARGIN if self.margin is None else self.margin)
        elif warning := describe_other_view(model.faces, view):
            print(f"warning: {warning}", file=sys.stderr)
        finder = FaceFinder(view) if view is not None else None
        limits = self.decode
        predictor = Predictor(
            model, device=self.device, batch_size=self.batch_size, precision=self.precision, limits=limits, faces=view
        )
        pictures = Pictures(paths=paths, root=source, output=output, confidence=self.confidence, limits=limits)
        seen = (
            pictures.find_faces(predictor, finder)
            if self.detect and finder is not None
            else pictures.predict(predictor, visualize=self.visualize)
        )
        num_bad = num_not_drawn = 0
        for picture in seen:
            print(encode_json(picture.to_dict(self.confidence)) if self.json else picture.describe(self.confidence))
            num_bad += picture.error is not None
            num_not_drawn += picture.not_drawn is not None
        print(*others, sep="\n", end="\n" if others else "", file=sys.stderr)
        if num_bad:
            print(f"{num_bad} of {len(paths)} pictures cannot be used; the reason is above", file=sys.stderr)
        if num_not_drawn:
            print(f"{num_not_drawn} of {len(paths)} pictures could not be drawn or saved; see above", file=sys.stderr)
        return int(num_bad == len(paths) or num_not_drawn > 0)
