"""A run over a bucket of images, for any model: plan, process pending rows, prove, publish.

The label run and the prediction run share this; each has its own actors, fingerprint and report.
"""

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, ClassVar, Self

import pyarrow as pa

import faceattr
from faceattr.attributes import AttributeSet
from faceattr.config import LabelConfig, PredictConfig, StorageConfig
from faceattr.data.images.face_view import FaceView
from faceattr.data.inputs.folder_files import describe_files
from faceattr.data.inputs.image_input import ImageInput
from faceattr.data.inputs.open import open_input
from faceattr.data.label_columns import FACE_FIELDS, label_schema
from faceattr.data.relabel import relabel
from faceattr.data.runs.begin import check_fingerprint, open_run
from faceattr.data.runs.changes.change import UPDATE, Change
from faceattr.data.runs.commit import OK, commit_all
from faceattr.data.runs.pending import PendingShards
from faceattr.data.runs.plan import Plan, write_plan
from faceattr.data.runs.reject_counts import count_rejected
from faceattr.data.runs.run_attributes import read_decisions
from faceattr.data.runs.version import Manifest, RunRecord, RunVersion, read_published, read_record
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import Store
from faceattr.jobs.cluster.machines.worthwhile import worthwhile_decoders
from faceattr.jobs.cluster.progress import ErrorBudget
from faceattr.jobs.cluster.session import ActorLayout, cluster_errors, plan_actors
from faceattr.jobs.cluster.watch_run import watch_run
from faceattr.jobs.images.decode import Resizer
from faceattr.jobs.images.pipeline import ImageStream, stream_rows
from faceattr.jobs.images.stage_watch import StageWatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ImageJob(ABC):
    """A checked command: everything that can be verified without a cluster has been verified.

    Attributes:
        kind: kind of run; its rows are stored in the folder `<kind>s`.
        config: the config as given.
        storage: how stores are accessed.
        output: the run folder.
    """

    kind: ClassVar[str]
    config: LabelConfig | PredictConfig
    storage: StorageConfig
    output: Store

    @property
    @abstractmethod
    def packages(self) -> tuple[str, ...]:
        """The distributions that can change a row: they decode, resize or compute."""

    @property
    @abstractmethod
    def attributes(self) -> AttributeSet:
        """The attributes that are the columns of the rows."""

    @property
    @abstractmethod
    def resizer(self) -> Resizer:
        """The function that resizes decoded images to the model's input size."""

    @property
    def faces(self) -> FaceView | None:
        """Which part of an image the model is shown; None for all of it."""
        return None

    @property
    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the rows of the run."""

    @property
    @abstractmethod
    def notes(self) -> dict[str, Any]:
        """Further information for readers of the run."""

    @property
    @abstractmethod
    def task(self) -> str:
        """What the model is to do, in words."""

    @property
    def gflop_image(self) -> float:
        """GFLOP of the model an image; 0 if they were not counted."""
        return 0.0

    @property
    def redraws_report(self) -> bool:
        """Whether the report of a finished run is written again."""
        return False

    @contextlib.contextmanager
    def settled(self) -> Iterator[Self]:
        """Yields the job with what only the cluster decides; a Ray session is open in the block if it was needed."""
        yield self

    @abstractmethod
    def actor(self, actors: ActorLayout, schema: pa.Schema) -> tuple[type, dict[str, Any]]:
        """Returns the class of the model actors, and the arguments of its constructor."""

    @property
    def input_fingerprint(self) -> dict[str, Any]:
        """What determines which images are read, and how."""
        config = self.config
        return {
            "images": config.images,
            "root": config.root,
            "bytes_column": config.bytes_column,
            "limit": config.limit,
            "decode": {"max_bytes": config.decode.max_bytes, "max_pixels": config.decode.max_pixels},
            "versions": {name: metadata.version(name) for name in self.packages},
        }


def check_output(job: ImageJob) -> None:
    """Raises ConfigError if the output folder holds another run."""
    record = read_record(job.output)
    if record is not None:
        check_fingerprint(job.output, record, kind=job.kind, fingerprint=job.fingerprint)


def open_images(job: ImageJob) -> ImageInput:
    """Opens the input of a job. Raises ConfigError if nothing usable is there."""
    config = job.config
    return open_input(
        config.images,
        root=config.root,
        storage=job.storage,
        reserved=label_schema(job.attributes, () if job.faces is None else FACE_FIELDS).names,
        bytes_column=config.bytes_column,
    )


def begin_run(job: ImageJob) -> RunRecord:
    """Begins or reopens the run in the output folder; the input of a new run is listed and frozen first."""

    def plan() -> tuple[Plan, dict[str, Any], pa.Schema]:
        images = open_images(job)
        logger.info("plan listing images=%s kind=%s", job.config.images, images.kind)
        plan = write_plan(job.output, images.tables, limit=job.config.limit, unique_by_source=images.kind == "prefix")
        logger.info("plan rows=%d shards=%d bytes=%d", plan.num_rows, plan.num_shards, plan.num_bytes)
        source: dict[str, Any] = {"kind": images.kind, "root": images.root, "bytes_column": images.bytes_column}
        if images.files is not None:
            source["files"] = images.files.to_json()
        return plan, source, images.carried

    return open_run(
        job.output,
        kind=job.kind,
        fingerprint=job.fingerprint,
        config=asdict(job.config),
        versions={name: metadata.version(name) for name in ("ray", "pyarrow", "numpy", *job.packages)}
        | {"faceattr": faceattr.__version__},
        notes=job.notes,
        write_plan=plan,
    )


def open_version(job: ImageJob, record: RunRecord, change: Change | None = None) -> RunVersion:
    """Opens the version of the run that this command works on; with a change, the version that it makes."""
    faces = () if job.faces is None else FACE_FIELDS
    schema = label_schema(job.attributes, [*faces, *record.carried_schema])
    return RunVersion(job.output, record, schema, retry_failed=job.config.retry_failed, change=change)


def process_pending(job: ImageJob, version: RunVersion) -> None:
    """Processes and commits the rows of uncommitted shards.

    Raises:
        RunError: too many images are bad, or the cluster failed; committed shards stay.
    """
    record, work = version.record, version.work()
    if not work.num_rows:
        return
    logger.info(
        "%s pending_rows=%d pending_shards=%d of=%d", job.kind, work.num_rows, len(work.pending), record.plan.num_shards
    )
    actors = plan_actors(job.config.workers, num_images=work.num_rows, gflop_image=job.gflop_image)
    logger.info("%s %s", job.kind, " ".join(f"{key}={value}" for key, value in asdict(actors).items()))
    binary = [each.name for each in job.attributes.attributes if each.is_yes_no]
    budget = ErrorBudget(
        job.config.max_error_share, version.num_rows, lambda: count_rejected(version, work, job.storage)
    )
    with (
        StageWatch() as stages,
        watch_run(version, work, budget, positives=binary, stage_shares=stages.shares) as on_rows,
        cluster_errors(),
    ):
        rows = _stream(job, version, work, actors, stages=stages)
        decisions = version.decisions and read_decisions(record, version.base)
        if decisions:  # a retry of a version with other thresholds
            rows = (relabel(each, job.attributes, decisions) for each in rows)
        commit_all(version.committer(work), rows, on_rows=on_rows)


def _stream(
    job: ImageJob,
    version: RunVersion,
    work: PendingShards,
    actors: ActorLayout,
    *,
    stages: StageWatch,
) -> Iterator[pa.Table]:
    """Streams the rows of the pending shards, in any order."""
    config, plan = job.config, version.record.plan
    actor, actor_kwargs = job.actor(actors, version.schema)
    num_bytes = plan.num_bytes * work.num_rows // plan.num_rows
    return stream_rows(
        work,
        ImageStream(
            run_uri=job.output.uri,
            root=version.record.source["root"],
            bytes_column=version.record.source["bytes_column"],
            storage=job.storage,
            limits=config.decode,
            decode_timeout_s=config.decode.timeout_s,
            resizer=job.resizer,
            faces=job.faces,
            max_decoders=worthwhile_decoders(work.num_rows, num_bytes, faces=job.faces is not None),
        ),
        actor=actor,
        actor_kwargs=actor_kwargs,
        actors=actors,
        block_rows=actors.block_rows(len(work.pending) * plan.shard_size, config.workers.block_rows),
        wait_s=config.workers.wait_s,
        name=f"faceattr_{job.kind}",
        watch=stages,
    )


def publish(job: ImageJob, version: RunVersion, observers: Sequence[Callable[[pa.Table], None]] = ()) -> Manifest:
    """Proves that every row exists exactly once, judges the rejects, and publishes; observers see every table.

    A version that is published already, by a session that ended before its report, is only shown to the observers.

    Raises:
        RunError: rows are missing, or too many images are bad; nothing is published then.
    """
    if version.published is not None:
        for table in read_published(job.output):
            for observe in observers:
                observe(table)
        return version.published
    budget = ErrorBudget(job.config.max_error_share, version.num_rows)
    manifest = version.verify([budget.observe, *observers])
    budget.judge()
    version.publish(manifest)
    return manifest


def summarise_run(job: ImageJob, manifest: Manifest, done: str, report_key: str) -> str:
    """Returns the text that the user reads at the end; `done` names what was done to an image, as a participle."""
    good = manifest.status_counts.get(OK, 0)
    reasons = [f"  {status}: {count:,}" for status, count in manifest.status_counts.items() if status != OK]
    folders = {file.key.rpartition("/")[0] for file in manifest.files}
    rows = f"{join_uri(job.output.uri, next(iter(folders)))}/*.parquet"
    if len(folders) > 1:  # a version that keeps files of an earlier one
        listed = join_uri(job.output.uri, manifest.key)
        rows = f"{len(manifest.files):,} files in {len(folders)} folders, listed in {listed}"
    what = f"{job.kind}s"
    width = max(len(what), len("report"))
    record = read_record(job.output)
    lines = [
        manifest.summary,
        *describe_update(manifest),
        f"{done} {good:,}, rejected {manifest.num_rows - good:,}",
        *reasons,
        *describe_files(manifest.change.get("files", record.source.get("files") if record else None)),
        f"{what:{width}}  {rows}",
        f"{'report':{width}}  {join_uri(job.output.uri, report_key)}",
    ]
    if reasons:
        lines.append("the rejected rows are in the table with status and error; --retry-failed processes them again")
    return "\n".join(lines)


def describe_update(manifest: Manifest) -> list[str]:
    """Returns the lines of the summary about an update; none of another version."""
    facts = manifest.change
    if facts.get("kind") != UPDATE:
        return []
    withheld = f", {facts['withheld']:,} withheld since they were deleted on request" if facts["withheld"] else ""
    lines = [
        f"update  {facts['new']:,} images new, {facts['changed']:,} changed, {facts['gone']:,} gone, "
        f"{facts['unchanged']:,} as they were{withheld}"
    ]
    lines += [f"        the rows that are left out are listed in {key}" for key in manifest.hashes if "left-out" in key]
    return lines
