"""The config of `pipelines/pack.py`."""

from dataclasses import dataclass, field
from typing import Literal

from faceattr.config.checks import check
from faceattr.config.flags import check_each_once
from faceattr.config.shared import (
    DEFAULT_MARGIN,
    MAX_MARGIN,
    DecodeConfig,
    FacesChoice,
    MissingFace,
    RayConfig,
    StorageConfig,
)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How a source's labels are read; settings unknown to its layout are refused. See `faceattr.data.sources`."""

    files: tuple[str, ...] = ()
    """Label files below --root. Default: the layout's usual names."""
    image_folder: str | None = None
    """Folder below --root that image names are relative to. Default: the layout's usual folders, else --root."""
    attributes: tuple[str, ...] = ()
    """Attributes to pack, in this order. Default: the layout's own; for label runs, all."""
    columns: tuple[str, ...] = ()
    """table: name=column or name=column:kind, such as image=path hat=wearing_hat age=years:age
    race=Race:White|Black|Asian person=name:identity."""
    class_order: Literal["natural", "sorted"] = "natural"
    """fairface: `sorted` is the order of the CLIP weights that were published with sorted class names."""

    def __post_init__(self) -> None:
        for name in ("files", "attributes", "columns"):
            check_each_once(f"source-options.{name}", getattr(self, name))
        check_each_once("source-options.columns", [entry.partition("=")[0] for entry in self.columns])


@dataclass(frozen=True, kw_only=True)
class SplitsConfig:
    """Which images become train, val and test. Byte-identical images are always in the same split."""

    train: float = 0.8
    """Share of train among the images without an official split. The three shares are divided by their sum."""
    val: float = 0.1
    """Share of val."""
    test: float = 0.1
    """Share of test."""
    seed: int = 0
    """Random seed of the draw and of the order of the rows. The same seed gives the same splits, whatever the order of
    the images."""
    official: Literal["keep", "ignore"] = "keep"
    """Whether the splits that a source defines are kept."""
    rename: tuple[str, ...] = ()
    """What official splits become: val=test makes the official val the test split, train=draw draws the images of train
    by the shares, validation=val maps a name that a manifest uses."""
    by: Literal["auto", "group", "image"] = "auto"
    """`group` keeps all images of one person in one split, `image` draws each image independently. `auto` is `group`,
    but `image` if an identity is packed as an attribute: a head that recognises persons must see them in every
    split."""

    def __post_init__(self) -> None:
        check_each_once("splits.rename", [entry.rpartition("=")[0] for entry in self.rename])
        for name in ("train", "val", "test"):
            share = getattr(self, name)
            check(0.0 <= share < float("inf"), f"splits.{name}", share, "0 or more")
        check(self.train + self.val + self.test > 0, "splits.train", self.train, "a share above 0 for one split")
        for entry in self.rename:
            old, _, new = entry.rpartition("=")
            known = bool(old) and new in ("train", "val", "test", "draw")
            check(known, "splits.rename", entry, "entries such as val=test, train=draw or validation=val")
        check(not (self.rename and self.official == "ignore"), "splits.rename", self.rename, "--splits.official keep")


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Packs only some of the images: all that have one of some attributes, and a number of others."""

    any_of: tuple[str, ...] = ()
    """Binary attributes; an image with a yes for one of them is packed."""
    negatives: int = 0
    """How many images with a no for all of them are packed in addition, drawn by --splits.seed."""

    def __post_init__(self) -> None:
        check_each_once("select.any-of", self.any_of)
        check(self.negatives >= 0, "select.negatives", self.negatives, "0 or more")
        check(bool(self.any_of) or not self.negatives, "select.negatives", self.negatives, "--select.any-of with it")


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """Joins labels and images into shards of encoded images that training streams, in one folder per split."""

    output: str
    """Run folder: a local path or s3://bucket/prefix."""
    labels: tuple[str, ...] = ()
    """Published label runs. Several runs over the same images are joined: an image gets the labels of all."""
    source: Literal["celeba", "fairface", "utkface", "facecom", "label_list", "table"] | None = None
    """A data set with its own labels, in --root; alone or together with --labels."""
    root: str | None = None
    """Folder of --source: a local path or s3://bucket/prefix."""
    thresholds: str | None = None
    """A thresholds.yaml of `faceattr audit apply`: its attributes are labelled again from the scores of --labels."""
    conflicts: Literal["mask", "keep", "drop"] = "mask"
    """Byte-identical images whose labels contradict each other: `mask` sets those labels to unknown and keeps the
    images, `keep` packs them as they are, `drop` leaves the images out. conflicts.csv lists them in every case."""
    drop_issues: str | None = None
    """A label_issues.parquet of `faceattr audit issues`, or a part of it: the labels that it names as issues become
    unknown. The images stay, with their other labels."""
    near_copies: int | Literal["auto", "off"] = "auto"
    """Keep resized, re-encoded and mirrored copies in one split: the largest number of bits, 0 to 8 of 64, in which
    each half of their perceptual hashes differs. near_copies.csv lists them. off: only byte-identical images are
    copies. auto: 6 for a --source, whose images are read for their hashes anyway; off for label runs alone, whose
    images would have to be read twice; a resumed run keeps what it had."""
    short_side_px: int | None = None
    """Re-encode every image as an upright JPEG; images with a longer short side are reduced to this one, in pixels.
    Default: the bytes are copied."""
    jpeg_quality: int | None = None
    """JPEG quality of re-encoded images, 1 to 100. Without --short-side-px, images keep their size but are re-encoded.
    Default: 92."""
    faces: FacesChoice = "none"
    """What is packed of an image: `none` packs all of it, `crop` the square around its largest face, `align` the same
    turned upright by its eyes, nose and mouth (extra `faces`). Crops are re-encoded. A model that is trained on the run
    records this, and predicts the same part of an image."""
    faces_margin: float = DEFAULT_MARGIN
    """Margin that --faces keeps on every side of a face, as a share of the face's size; 0.4 leaves room for hats and
    beards."""
    faces_missing: MissingFace = "reject"
    """What becomes of an image without a face: `reject` it with the reason no_face, or pack the `whole` image."""
    limit: int | None = None
    """Pack only the first LIMIT images."""
    max_error_share: float = 0.05
    """Stop as soon as more than this share of the run's images is unusable, earlier sessions included; likewise for the
    label rows of a source."""
    retry_failed: bool = False
    """Process the rejected rows of a published run again, into a new version."""
    shard_mb: int = 64
    """Target size of a shard, in MB. A worker needs several times as much memory."""
    dry_run: bool = False
    """Show the config, the rows, their splits and a measured rate, and stop."""
    source_options: SourceConfig = field(default_factory=SourceConfig)
    splits: SplitsConfig = field(default_factory=SplitsConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        check(bool(self.output), "output", self.output, "an address")
        check(bool(self.labels or self.source), "labels", self.labels, "a label run, or --source and --root")
        check_each_once("labels", self.labels)
        check(self.source is None or bool(self.root), "root", self.root, f"the folder of --source {self.source}")
        check(self.root is None or self.source is not None, "source", self.source, "the name of --root's layout")
        check(self.thresholds is None or bool(self.labels), "thresholds", self.thresholds, "--labels with it")
        near = self.near_copies
        is_number = isinstance(near, int) and 0 <= near <= 8
        check(near in ("auto", "off") or is_number, "near-copies", near, "a number from 0 to 8, auto or off")
        short_side = self.short_side_px
        check(short_side is None or short_side >= 8, "short-side-px", short_side, "8 or more")
        quality = self.jpeg_quality
        check(quality is None or 1 <= quality <= 100, "jpeg-quality", quality, "between 1 and 100")
        check(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")
        margin = self.faces_margin
        check(0 <= margin <= MAX_MARGIN, "faces-margin", margin, f"between 0 and {MAX_MARGIN:g}")
        check(0.0 <= self.max_error_share <= 1.0, "max-error-share", self.max_error_share, "between 0 and 1")
        check(1 <= self.shard_mb <= 1024, "shard-mb", self.shard_mb, "between 1 and 1024")
