"""The prediction run: images in a store -> a trained model -> a published table in the schema of labels.

Plan, resume, rejects and publishing are shared with the label run (`run.py`).
"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import pyarrow as pa

from faceattr.attributes import AttributeSet
from faceattr.config import PrecisionChoice, PredictConfig, StorageConfig
from faceattr.data.images.face_view import FaceView, choose_view, describe_faces, describe_other_view
from faceattr.data.model_folders import absolute_name
from faceattr.data.runs.run_attributes import describe_attributes, read_run_attributes
from faceattr.data.runs.version import Manifest, RunVersion, read_manifest, read_record
from faceattr.data.stores.open import open_output, open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError
from faceattr.inference.detect import detector_version
from faceattr.inference.faces import FaceFinder
from faceattr.jobs.cluster.machines.gpus import find_cluster_precision
from faceattr.jobs.cluster.recipe import ActorRecipe
from faceattr.jobs.cluster.session import ActorLayout, plan_actors, ray_session, stop_on_sigterm
from faceattr.jobs.images.actors.predict_actor import PredictActor
from faceattr.jobs.images.decode import Resizer
from faceattr.jobs.images.run import ImageJob, check_output, publish, summarise_run
from faceattr.logs import say
from faceattr.models.inspect import SavedModelInfo, inspect_saved_model
from faceattr.reports.pages import report_key

logger = logging.getLogger(__name__)
# Increased by hand when a change of the code can change a score or a label.
PREDICTION_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PredictJob(ImageJob):
    """A checked prediction command; see `ImageJob`.

    Attributes:
        model: facts about the model, including the hash of its weights.
        labels: the label run to compare with, if one is named.
    """

    kind = "prediction"
    packages = ("torch", "torchvision", "timm", "transformers", "pillow", "simplejpeg")
    config: PredictConfig
    model: SavedModelInfo
    labels: Store | None

    @contextlib.contextmanager
    def settled(self) -> Iterator[Self]:
        """See `ImageJob`. A precision that is `auto` is that of the devices; a run that began has one already."""
        config = self.config
        if config.precision != "auto":
            yield self
            return
        with ray_session(config.ray), stop_on_sigterm():
            found = find_cluster_precision("auto", on_gpus=plan_actors(config.workers).gpus > 0)
            logger.info("computing in %s", found.where)
            yield replace(self, config=replace(config, precision=found.precision))

    @property
    def attributes(self) -> AttributeSet:
        """See `ImageJob`."""
        return self.model.attributes

    @property
    def resizer(self) -> Resizer:
        """See `ImageJob`."""
        return model_resizer(self.model)

    @property
    def faces(self) -> FaceView | None:
        """See `ImageJob`."""
        config = self.config
        return choose_view(
            self.model.faces, faces=config.faces, margin=config.faces_margin, missing=config.faces_missing
        )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the rows of the run."""
        faces = {} if self.faces is None else {"faces": {"view": self.faces.to_dict(), **detector_version()}}
        return {
            **self.input_fingerprint,
            **faces,
            "weights": self.model.weights_id,
            "attributes": describe_attributes(self.model.attributes),
            "precision": self.config.precision,
            "prediction_version": PREDICTION_VERSION,
            # Left out otherwise, so that runs from before the setting existed can be resumed.
            **({"flip": True} if self.config.flip else {}),
        }

    @property
    def notes(self) -> dict[str, Any]:
        """Further information for readers of the run."""
        seen = {} if self.faces is None else {"faces": describe_faces(self.faces)}
        return {
            **seen,
            "model": self.config.model,
            "revision": self.model.revision,
            "thresholds": dict(self.model.thresholds),
            "calibrated": sorted(self.model.calibration),
        }

    @property
    def task(self) -> str:
        """See `ImageJob`."""
        seen = "" if self.faces is None else f", of {describe_faces(self.faces)}"
        return f"{self.config.model} predicts {', '.join(self.attributes.names)}, in {self.config.precision}{seen}"

    def actor(self, actors: ActorLayout, schema: pa.Schema) -> tuple[type, dict[str, Any]]:
        """See `ImageJob`."""
        config = self.config
        recipe = predictor_recipe(config.model, self.model, config.precision, actors, self.storage, flip=config.flip)
        return PredictActor, {"build_predictor": recipe, "schema": schema}


def model_resizer(model: SavedModelInfo) -> Resizer:
    """Returns the function that resizes decoded images for a model, by name."""
    preprocessing = model.preprocessing
    return Resizer("faceattr.models.resize:resize_pixels", preprocessing.to_dict(), size_px=preprocessing.size_px)


def predictor_recipe(
    source: str,
    model: SavedModelInfo,
    precision: PrecisionChoice,
    actors: ActorLayout,
    storage: StorageConfig,
    *,
    flip: bool,
) -> ActorRecipe:
    """Returns the recipe by which each actor builds its predictor."""
    return ActorRecipe(
        "faceattr.inference.build:build_predictor",
        {
            "model": absolute_name(source),
            "revision": model.revision,
            "weights_id": model.weights_id,
            "precision": precision,
            "batch_size": actors.batch_size,
            "threads": actors.threads,
            "on_gpu": actors.gpus > 0,
            "storage": storage,
            "flip": flip,
        },
    )


def prepare_predict_job(config: PredictConfig) -> PredictJob:
    """Checks a command as far as possible without a cluster and without reading an image.

    Raises:
        ConfigError, ModelError: the command cannot run as given.
        StorageError: the output store cannot be accessed.
    """
    storage = config.storage
    output = open_output(config.output, storage)
    labels = open_store(config.labels, storage) if config.labels is not None else None
    model = inspect_saved_model(config.model, revision=config.revision, storage=storage)
    if labels is not None:
        _check_labels(labels, model.attributes)
    record = read_record(output)
    if record is not None and config.precision == "auto":
        config = replace(config, precision=record.fingerprint.get("precision", "float32"))
    job = PredictJob(config=config, model=model, storage=storage, output=output, labels=labels)
    if job.faces is not None:
        FaceFinder(job.faces)  # the extra is installed, or the command ends here
    warning = describe_other_view(model.faces, job.faces)
    if warning is not None:
        logger.warning("%s", warning)
    check_output(job)
    return job


def _check_labels(labels: Store, attributes: AttributeSet) -> None:
    record = read_record(labels)
    if record is None or record.kind not in ("label", "prediction") or read_manifest(labels) is None:
        raise ConfigError(f"--labels {labels.uri}: expected a published label run or prediction run")
    theirs = read_run_attributes(record)
    shared = [each for each in attributes.attributes if each.name in theirs]
    if not shared:
        raise ConfigError(
            f"--labels {labels.uri}: has {', '.join(theirs)}, none of which the model predicts "
            f"({', '.join(attributes.names)})"
        )
    for each in shared:
        if theirs[each.name].classes != each.classes:
            raise ConfigError(
                f"--labels {labels.uri}: {each.name!r} has the classes {list(theirs[each.name].classes)} there, "
                f"{list(each.classes)} in the model"
            )


def publish_predictions(job: PredictJob, version: RunVersion) -> Manifest:
    """Proves, publishes, compares with the labels if there are any, and writes the report.

    Raises:
        RunError: rows are missing, or too many images are bad; nothing is published then.
    """
    from faceattr.evaluation.agreement import Agreement  # noqa: PLC0415 - late: sklearn
    from faceattr.reports.prediction import PredictionStatistics, write_prediction_report  # noqa: PLC0415 - late: it draws

    statistics = PredictionStatistics(job.attributes)
    agreement = Agreement.open(job.labels, job.attributes) if job.labels is not None else None
    observers = [statistics.observe, *([agreement.observe] if agreement is not None else [])]
    manifest = publish(job, version, observers)
    write_prediction_report(job.output, version.record, manifest, statistics, agreement)
    if agreement is not None:
        say(agreement.describe())
    return manifest


def summarise_predictions(job: PredictJob, manifest: Manifest) -> str:
    """Returns the text that the user reads at the end."""
    text = summarise_run(job, manifest, "predicted", report_key(manifest.version))
    warning = describe_other_view(job.model.faces, job.faces)
    mirrored = ", mean with mirror images" if job.config.flip else ""
    lines = [text, f"computed in {job.config.precision}{mirrored}"]
    if job.faces is not None or warning is not None:
        lines.append(f"shown    {describe_faces(job.faces)}")
    return "\n".join([*lines, *([f"WARNING: {warning}"] if warning is not None else [])])
