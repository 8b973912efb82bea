"""The training run: packed runs -> a group of workers under DDP -> a model folder.

run.json                        config, fingerprint, versions, seeds; where it started from, by --resume-from
survey.json, splits/            what the labels are, and which image is in which split
checkpoints/                    the last and the best epoch
metrics.jsonl                   figures of each epoch; progress.json during an epoch
model.safetensors, config.json  the best model so far, marked as unfinished; at the end the model of the best epoch
report.html, training_metrics.png, metrics.csv, tensorboard/
"""

import logging
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import pyarrow as pa
import ray
import ray.train
from ray.train.torch import TorchTrainer

import faceattr
from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.config.fit import list_deciding
from faceattr.config.train import TrainConfig
from faceattr.data.formats.json_files import decode_object
from faceattr.data.lineage import describe_data
from faceattr.data.packed.reader import PackedData, open_packed
from faceattr.data.runs.begin import check_fingerprint, open_run
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.status import METRICS_KEY
from faceattr.data.runs.version import RUN_KEY, RunRecord, read_record
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_output
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import ConfigError, DivergedError, FaceattrError, RunError
from faceattr.jobs.cluster.code_version import code_version
from faceattr.jobs.cluster.session import cluster_errors
from faceattr.jobs.trackers.tracked import TrackedRun, check_loggers, list_settings, tracked
from faceattr.jobs.train.ending import Ending
from faceattr.jobs.train.feed import reading_cpus
from faceattr.jobs.train.progress import TrainProgress
from faceattr.jobs.train.survey import load_surveys, survey_data
from faceattr.jobs.train.worker import WorkerPlan, train_worker
from faceattr.jobs.train.worker_group import build_trainer, group_environment
from faceattr.models.backbones.published import check_published_weights
from faceattr.models.freezing import describe_trainable
from faceattr.models.saved import CONFIG_FILE
from faceattr.training.assembly import (
    build_stages,
    build_untrained,
    check_selection,
    choose_attributes,
    describe_forgotten,
    renamed_backbone,
)
from faceattr.training.balance import ClassCombinations
from faceattr.training.inputs import TrainingInputs
from faceattr.training.label_needs import check_label_needs, refuse_unlabelled
from faceattr.training.label_survey import SplitSurvey
from faceattr.training.lineage.advice import advise_diverged
from faceattr.training.lineage.origin import ORIGIN_KEY, Origin, find_origin
from faceattr.training.loop.compiled import check_whole_graph
from faceattr.training.loop.state import FitResult
from faceattr.training.recipe import resolve_recipe

logger = logging.getLogger(__name__)
TRAIN_KIND = "train"
# Increased by hand when a change of the code changes what the same config learns, so that no run mixes two versions.
TRAINING_VERSION = 1
_PACKAGES = ("ray", "torch", "torchvision", "timm", "transformers", "peft", "torchjd", "pyarrow", "numpy")
# Groups and keys that determine what is learnt; the others set where and how fast.
_DECIDING = ("attributes", "seed", "model", "lora", "freeze", "loss", "optim", "select", "thresholds", "augment")
_DECIDING_FEED = ("batch_size", "balance", "balance_power", "shuffle_rows")
# A training has no rows of its own to commit.
_NO_PLAN = Plan(num_rows=0, num_bytes=0, shard_size=1, parts=())


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """A checked training command: everything that can be verified without a cluster has been verified.

    Attributes:
        config: the config as given, with every open setting chosen.
        recipe: what was chosen and why: rate, schedule, augmentation.
        data: the packed runs.
        attributes: the attributes to learn.
        storage: how stores are accessed.
        output: the model folder.
        origin: the checkpoint of another training from which it starts.
    """

    config: TrainConfig
    recipe: tuple[str, ...]
    data: PackedData
    attributes: AttributeSet
    storage: StorageConfig
    output: Store
    origin: Origin | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines what is learnt."""
        config = list_deciding(self.config)
        return {
            "data": self.data.fingerprint,
            **{name: config[name] for name in _DECIDING if name in config},
            "feed": {name: config["feed"][name] for name in _DECIDING_FEED if name in config["feed"]},
            "training_version": TRAINING_VERSION,
            **renamed_backbone(self.config.model),
            **({ORIGIN_KEY: self.origin.deciding} if self.origin is not None else {}),
        }

    @property
    def finished(self) -> bool:
        """Whether the model exists and is no longer the best one so far."""
        try:
            content = self.output.get(CONFIG_FILE)
        except MissingObjectError:
            return False
        return "unfinished" not in decode_object(content, join_uri(self.output.uri, CONFIG_FILE))


def prepare_train_job(config: TrainConfig) -> TrainJob:
    """Checks a command as far as possible without reading labels; writes nothing.

    Raises:
        ConfigError: the command cannot run as given.
        StorageError: a store cannot be accessed.
    """
    storage = config.storage
    check_loggers(config.loggers)
    output = open_output(config.output, storage)
    data = open_packed(config.data, storage, needs=("train", "val"))
    attributes = choose_attributes(data.attributes, config.attributes)
    if config.feed.balance:
        ClassCombinations(data.attributes, config.feed.balance)
    num_rows = data.num_rows("train")
    check_label_needs(config.select, attributes, data)
    record = read_record(output)
    goes_on = record is not None and (record.kind != TRAIN_KIND or _has_trained(output))
    begun = record.fingerprint if record is not None and goes_on and record.kind == TRAIN_KIND else None
    recipe = resolve_recipe(config, num_images=num_rows, begun=begun)
    size = recipe.config.feed.settled_batch_size
    if num_rows < size:
        raise ConfigError(f"--feed.batch-size {size}: the training split has {num_rows:,} images; choose fewer")
    job = TrainJob(
        config=recipe.config, recipe=recipe.lines, data=data, attributes=attributes, storage=storage, output=output
    )
    origin = find_origin(job.config, output, fingerprint=job.fingerprint, attributes=attributes)
    if origin is not None:
        job = replace(job, origin=origin, recipe=(*job.recipe, f"start         {origin}"))
    if record is not None and goes_on:
        check_fingerprint(output, record, kind=TRAIN_KIND, fingerprint=job.fingerprint)
    return job


def _has_trained(output: Store) -> bool:
    """Whether an epoch has finished; the best model so far may be there before."""
    return any(each.key == METRICS_KEY or each.key.startswith("checkpoints/") for each in output.list())


def forget_untrained(job: TrainJob) -> None:
    """Removes the record of an attempt that never finished an epoch: nothing is lost, and settings may change."""
    if not _has_trained(job.output):
        job.output.delete(RUN_KEY)


def begin_train_run(job: TrainJob) -> RunRecord:
    """Begins or reopens the run in the output folder."""
    config = job.config
    return open_run(
        job.output,
        kind=TRAIN_KIND,
        fingerprint=job.fingerprint,
        config=asdict(config),
        versions={name: metadata.version(name) for name in _PACKAGES}
        | {"faceattr": faceattr.__version__, "code": code_version()},
        notes={
            "seed": config.seed,
            "recipe": list(job.recipe),
            "attributes": [asdict(each) for each in job.attributes.attributes],
            "images": {split: job.data.num_rows(split) for split in job.data.splits},
            **({ORIGIN_KEY: job.origin.note} if job.origin is not None else {}),
        },
        write_plan=lambda: (_NO_PLAN, describe_data(job.data), pa.schema([])),
    )


def survey_labels(job: TrainJob, *, write: bool = True) -> dict[str, SplitSurvey]:
    """Reads all labels, and makes the checks that need them.

    Raises:
        ConfigError, ModelError: the data, the model and the settings do not fit together.
        RunError: a label is outside its range.
    """
    # Without a run.json, a survey there was left by an attempt that was refused, perhaps with other attributes.
    surveys = load_surveys(job.output) if read_record(job.output) is not None else None
    if surveys is None:
        with cluster_errors():
            surveys = survey_data(
                job.data, job.attributes, job.config.feed.balance, job.output if write else None, job.storage
            )
    refuse_unlabelled(job.attributes, [name for name in job.attributes.names if name not in surveys["train"].labelled])
    check_selection(job.config, job.attributes, surveys["val"].labelled)
    return surveys


def describe_network(job: TrainJob) -> str:
    """Describes which blocks train in which stage. Builds the model with random weights, so nothing is downloaded.

    Must be called before a cluster is used: it shows whether the model is available and fits the settings.

    Raises:
        ConfigError, ModelError: the model cannot be built as configured, or its published weights are not available.
    """
    settings = job.config.model
    # A training that resumes, or starts from another one, has its weights in a checkpoint.
    has_weights = job.origin is not None or _has_trained(job.output)
    if settings.pretrained and settings.checkpoint is None and not has_weights:
        check_published_weights(settings.backbone)

    model = build_untrained(job.config, job.attributes, storage=job.storage)
    if job.config.workers.compile == "on":
        check_whole_graph(model)
    stages = build_stages(job.config, model)
    lines = [
        f"stage {number}: {stage.num_epochs} epochs, freeze depth {stage.freeze_depth}, lr {stage.lr:g}"
        for number, stage in enumerate(stages)
    ]
    forgotten = describe_forgotten(settings, storage=job.storage)
    size = model.backbone.preprocessing.size_px
    return "\n".join([str(describe_trainable(model)), f"images of {size} px", *lines, *forgotten])


def make_plan(job: TrainJob, surveys: Mapping[str, SplitSurvey]) -> WorkerPlan:
    """Returns what the workers need to know."""
    return WorkerPlan(
        config=job.config,
        inputs=TrainingInputs(data=job.data, attributes=job.attributes, surveys=surveys, storage=job.storage),
        output_uri=job.output.uri,
        origin=job.origin,
    )


def train_model(job: TrainJob, record: RunRecord, surveys: Mapping[str, SplitSurvey]) -> FitResult:
    """Runs the workers to the end, through losses of workers and nodes; the model is then in the folder.

    Raises:
        FaceattrError: training cannot continue; the last checkpoint stays.
    """
    run = TrackedRun(
        run_id=record.run_id,
        name=job.output.uri.rstrip("/").rpartition("/")[2],
        group=None,
        settings=list_settings(job.config),
    )
    with (
        tempfile.TemporaryDirectory(prefix="faceattr-train-") as scratch,
        group_environment(job.config.workers),
        tracked(job.config.loggers, run) as log,
    ):
        progress = TrainProgress(job.output, log=log)
        trainer = build_trainer(
            train_worker,
            {"plan": make_plan(job, surveys)},
            job.config.workers,
            name=record.run_id,
            storage_path=scratch,
        )
        # Ray starts processes that import torch: nothing else is heard of them for a while.
        logger.info("train workers=%d starting", job.config.workers.num_workers)
        with progress.shown():
            ending = _fit_in_thread(trainer)
    if ending.error is not None:
        forget_untrained(job)
        if isinstance(ending.error, DivergedError):
            raise DivergedError(f"{ending.error}.\n{advise_diverged(job.config, job.output)}")
        raise ending.error
    assert ending.result is not None
    return ending.result


def check_room(config: TrainConfig) -> None:
    """Refuses a group that would wait for ever, on a cluster of fixed size.

    Raises:
        ConfigError: the cluster has no CPU left for decoding next to the workers, or not enough GPUs.
    """
    workers, cluster = config.workers, ray.cluster_resources()
    least = workers.min_workers or workers.num_workers
    # The least that lets the group make progress: one reading task per worker, and one decoding task for all.
    claimed = least * (workers.cpus_per_worker + reading_cpus(1)) + config.feed.decode_cpus
    cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    if claimed > cpus:
        raise ConfigError(
            f"--workers.num-workers {least}: with decoding beside them they claim {claimed:g} CPUs, the cluster has "
            f"{cpus:g}; lower --workers.cpus-per-worker or the number of workers"
        )
    if workers.use_gpu and gpus < least:
        raise ConfigError(f"--workers.use-gpu: {least} workers need as many GPUs, the cluster has {gpus:g}")


def _fit_in_thread(trainer: TorchTrainer) -> Ending:
    """Runs a trainer to its end.

    In a thread: in the main thread Ray Train would install its own handler for SIGINT, which signals a lost lease here.
    """
    found: list[Ending | BaseException] = []

    def run() -> None:
        try:
            found.append(trainer.fit().return_value)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            found.append(error)

    thread = threading.Thread(target=run, name="train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    ending = found[0]
    if isinstance(ending, ray.train.TrainingFailedError):
        raise _explain(ending) from ending
    if isinstance(ending, BaseException):
        with cluster_errors():
            raise ending
    return ending


def _explain(error: ray.train.TrainingFailedError) -> FaceattrError:
    """Returns the worker's own error if it is one of ours, else an error that says what failed."""
    logger.debug("training failed", exc_info=error)
    failures: Mapping[int, BaseException] = getattr(error, "worker_failures", {})
    causes = [getattr(error, "controller_failure", error), *failures.values()]
    for cause in causes:
        inner: BaseException | None = cause
        while inner is not None:
            if isinstance(inner, FaceattrError):
                return type(inner)(str(inner))
            inner = inner.__cause__ or getattr(inner, "cause", None)
    last = [line for line in str(causes[-1]).splitlines() if line.strip()][-1:]
    return RunError(
        f"the workers failed: {type(causes[-1]).__name__}: {' '.join(last)}. The last checkpoint stays; run the same "
        "command again to resume from it. FACEATTR_LOG_LEVEL=DEBUG shows the whole error."
    )
