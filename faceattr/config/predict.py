"""The config of `pipelines/predict.py`."""

from dataclasses import dataclass, field
from typing import Literal

from faceattr.config.checks import check
from faceattr.config.shared import (
    MAX_MARGIN,
    DecodeConfig,
    PrecisionChoice,
    RayConfig,
    StorageConfig,
    WorkersConfig,
)


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Predicts the attributes of images with a trained model."""

    model: str
    """A trained model: a local folder, a folder in object storage, or a hub id."""
    images: str
    """A prefix or folder of images, a manifest (.csv, .jsonl or .parquet with a column `uri` or `image_path`), or
    Parquet or tar files (WebDataset) that contain encoded images."""
    output: str
    """Run folder: a local path or s3://bucket/prefix."""
    labels: str | None = None
    """A published label run over the same images; the report compares the predictions with it."""
    revision: str | None = None
    """Commit of a hub model. Default: the hub's current one. The hash of the weights is recorded in either case."""
    precision: PrecisionChoice = "auto"
    """Data type of the network's computation. auto: bfloat16 on GPUs from Ampere on, else float32. bfloat16 changes
    scores by up to about 0.02; on CPUs it pays only where they have instructions for it. float32 on a GPU uses TF32."""
    flip: bool = False
    """Predict from the mean of the outputs for each image and for its mirror image (test-time augmentation), which
    takes twice as long. Evaluate the model with it too, for thresholds and calibration that fit."""
    faces: Literal["model", "none", "crop", "align"] = "model"
    """What the model is shown of an image: `model` the same as in its training, or, whatever that was, `none` all of
    it, `crop` its largest face, `align` the same turned upright (extra `faces`). A choice that differs from the
    training is warned of."""
    faces_margin: float | None = None
    """Margin on every side of a face, as a share of the face's size. Default: the model's, else 0.4."""
    faces_missing: Literal["model", "reject", "whole"] = "model"
    """What becomes of an image without a face: `reject` it with the reason no_face, or show the `whole` image. `model`:
    as in its training."""
    root: str | None = None
    """Folder that relative paths of a manifest are relative to. Default: the manifest's folder."""
    bytes_column: str | None = None
    """Column of the Parquet files that contains the encoded images. Default: found by name and type."""
    limit: int | None = None
    """Predict only the first LIMIT images."""
    max_error_share: float = 0.05
    """Stop as soon as more than this share of the run's images is unusable, earlier sessions included."""
    retry_failed: bool = False
    """Process the rejected rows of a published run again, into a new version."""
    update: bool = False
    """List the images again, and publish a version of --output with the new and the changed ones predicted, by key,
    size and etag, and without those that are gone. A run that is not published yet is finished first; without a run,
    all images are predicted. So the same command can run every night."""
    dry_run: bool = False
    """Show the config, the images, the resources and a measured rate, and stop."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        for name in ("model", "images", "output"):
            check(bool(getattr(self, name)), name, getattr(self, name), "an address")
        check(self.labels != "", "labels", self.labels, "an address")
        check(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")
        check(not (self.update and self.retry_failed), "update", self.update, "no --retry-failed; give it afterwards")
        check(not (self.update and self.limit), "update", self.update, "no --limit, whose images a new listing moves")
        margin = self.faces_margin
        check(margin is None or 0 <= margin <= MAX_MARGIN, "faces-margin", margin, f"between 0 and {MAX_MARGIN:g}")
        check(0.0 <= self.max_error_share <= 1.0, "max-error-share", self.max_error_share, "between 0 and 1")
