"""The config of `pipelines/label.py`."""

from dataclasses import dataclass, field
from typing import Literal

from faceattr.config.checks import check
from faceattr.config.shared import DecodeConfig, RayConfig, StorageConfig, WorkersConfig


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """Labels images with a model that answers questions about them, or compares them with texts."""

    images: str = ""
    """A prefix or folder of images, a manifest (.csv, .jsonl or .parquet with a column `uri` or `image_path`), or
    Parquet or tar files (WebDataset) that contain encoded images."""
    output: str = ""
    """Run folder: a local path or s3://bucket/prefix."""
    attributes: str = "clear_face"
    """A built-in question set (clear_face, celeba4, portrait) or a YAML file of your own."""
    model: str = "Salesforce/blip-vqa-base"
    """A checkpoint of a family that can label, such as BLIP (BlipForQuestionAnswering), CLIP, SigLIP, SmolVLM: hub
    id, local folder, folder in object storage, or `tiny` (for drawn faces). Or openai:http://HOST:PORT/v1#NAME, a model
    that a vLLM or SGLang server of yours serves; if it wants a key, OPENAI_API_KEY has it. `faceattr models` and
    docs/engines.md compare them."""
    revision: str | None = None
    """Commit of a hub checkpoint. Default: the hub's current one. The hash of the weights is recorded in either
    case."""
    engine: Literal["packed", "hf"] = "packed"
    """`packed` is the fast way: all questions in one pass, or all prompts embedded once; `hf` is the plain, slow path
    of transformers, for comparison. A served model has no `hf`: the server computes as it does."""
    question_start: Literal["cls", "enc"] = "cls"
    """First token of a question to BLIP: `cls` as in transformers, `enc` as in the original."""
    precision: Literal["auto", "float32", "float16", "bfloat16", "fp8"] = "auto"
    """Arithmetic of the packed engine. `auto` is float16 on a GPU and float32 on a CPU; `fp8` multiplies the vision
    tower's matrices in 8 bits, on GPUs from Ada and Hopper on: emulated on a CPU, about one label in 500 differs. Its
    speed has not been measured yet."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the packed engine's network with torch.compile: 8 % faster on an H200 after 32 s. `auto` does it on a GPU
    if an actor has more than 1.1 million images to label. Scores move as with another batch size."""
    agreement: bool = False
    """Multiply the mass of a score by how far the paraphrases of its question agree, so that training gives less weight
    to scores that depend on the wording. Labels and scores stay the same."""
    root: str | None = None
    """Folder that relative paths of a manifest are relative to. Default: the manifest's folder."""
    bytes_column: str | None = None
    """Column of the Parquet files that contains the encoded images. Default: found by name and type."""
    limit: int | None = None
    """Label only the first LIMIT images."""
    max_error_share: float = 0.05
    """Stop as soon as more than this share of the run's images is unusable, earlier sessions included."""
    retry_failed: bool = False
    """Process the rejected rows of a published run again, into a new version."""
    update: bool = False
    """List the images again, and publish a version of --output with the new and the changed ones labelled, by key, size
    and etag, and without those that are gone. A run that is not published yet is finished first; without a run, all
    images are labelled. So the same command can run every night."""
    rethreshold: str | None = None
    """Instead of labelling: a published label or prediction run that is labelled again from its scores, without a
    model, by --thresholds; the result is its next version."""
    thresholds: str | None = None
    """With --rethreshold: the thresholds.yaml of `faceattr audit apply`."""
    thumbnails: bool = False
    """Show images in the report: the most doubtful, highest and lowest scores of each attribute. This copies images
    into it. A finished run's report is written again."""
    allow_sensitive: str | None = None
    """Reason for asking about race, religion, orientation, health or politics; the run records it."""
    dry_run: bool = False
    """Show the config, the images, the resources and a measured rate, and stop."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        again = self.rethreshold is not None
        check(
            again == (self.thresholds is not None), "thresholds", self.thresholds, "a file together with --rethreshold"
        )
        check(again or bool(self.images), "images", self.images, "an address")
        check(again or bool(self.output), "output", self.output, "an address")
        check(not (again and (self.images or self.output)), "rethreshold", self.rethreshold, "no --images and --output")
        check(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")
        check(not (self.update and again), "update", self.update, "no --rethreshold; give one command after the other")
        check(not (self.update and self.retry_failed), "update", self.update, "no --retry-failed; give it afterwards")
        check(not (self.update and self.limit), "update", self.update, "no --limit, whose images a new listing moves")
        check(0.0 <= self.max_error_share <= 1.0, "max-error-share", self.max_error_share, "between 0 and 1")
        is_packed = self.engine == "packed"
        exact = ("auto", "float32")
        check(is_packed or self.precision in exact, "precision", self.precision, "auto or float32 with --engine hf")
        check(is_packed or self.compile != "on", "compile", self.compile, "auto or off with --engine hf")
        reason = self.allow_sensitive
        check(reason is None or len(reason.strip()) >= 10, "allow-sensitive", reason, "a reason of ten letters or more")
