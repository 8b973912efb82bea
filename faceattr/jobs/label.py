"""The label run: images in a store -> BLIP VQA actors -> a published table of labels."""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import pyarrow as pa

import faceattr
from faceattr.config import LabelConfig
from faceattr.data.commit import OK
from faceattr.data.fetch import fetch_folder
from faceattr.data.images import ImageLimits
from faceattr.data.inputs import ImageInput, open_input
from faceattr.data.plan import Plan, write_plan
from faceattr.data.runs import (
    Manifest,
    RunRecord,
    RunVersion,
    Work,
    check_fingerprint,
    commit_all,
    open_run,
    read_record,
)
from faceattr.data.storage import StorageOptions, Store, join_uri, open_output
from faceattr.data.tables import label_schema
from faceattr.errors import ConfigError
from faceattr.evaluation.label_report import LabelStatistics, report_key, write_label_report
from faceattr.jobs.progress import ErrorBudget, Progress
from faceattr.jobs.session import ActorPlan, cluster_errors, plan_actors
from faceattr.jobs.stream import ImageStream, stream_rows
from faceattr.jobs.vqa_actor import BuildScorer, VqaActor
from faceattr.vqa.facts import CheckpointFacts, inspect_checkpoint
from faceattr.vqa.question_files import load_question_set
from faceattr.vqa.questions import QuestionSet

logger = logging.getLogger(__name__)

# Raised by hand when a change of ours can change a score or a label.
SCORING_VERSION = 1
# Packages that can: those that decode, resize or compute.
_SCORING_PACKAGES = ("torch", "transformers", "tokenizers", "pillow", "simplejpeg")


@dataclass(frozen=True, kw_only=True)
class LabelJob:
    """A checked label command: everything that can be wrong before a cluster is touched has been looked at.

    Attributes:
        config: as given.
        questions: what is asked.
        checkpoint: facts about the model, its weights' hash among them.
        storage: how stores are reached.
        output: the run folder.
    """

    config: LabelConfig
    questions: QuestionSet
    checkpoint: CheckpointFacts
    storage: StorageOptions
    output: Store

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that decides the rows of the run."""
        config = self.config
        return {
            "images": config.images,
            "root": config.root,
            "bytes_column": config.bytes_column,
            "limit": config.limit,
            "weights": self.checkpoint.weights_id,
            "engine": config.engine,
            "question_start": config.question_start,
            "questions": self.questions.to_json(),
            "decode": {"max_bytes": config.decode.max_bytes, "max_pixels": config.decode.max_pixels},
            "size_px": self.checkpoint.size_px,
            "scoring_version": SCORING_VERSION,
            "versions": {name: metadata.version(name) for name in _SCORING_PACKAGES},
        }

    @property
    def notes(self) -> dict[str, Any]:
        """What a reader of the run should know besides."""
        notes: dict[str, Any] = {"model": self.config.model, "revision": self.checkpoint.revision}
        sensitive = self.questions.sensitive_questions()
        if sensitive:
            notes["sensitive"] = {"questions": list(sensitive), "reason": self.config.allow_sensitive}
        return notes


def prepare_label_job(config: LabelConfig) -> LabelJob:
    """Checks a command as far as it can be checked without a cluster, and without reading an image.

    Raises:
        ConfigError, ModelError: it cannot run as given.
        StorageError: the output store refuses.
    """
    questions = load_question_set(config.attributes)
    sensitive = questions.sensitive_questions()
    if sensitive and config.allow_sensitive is None:
        raise ConfigError(
            f"--attributes {config.attributes} asks about race, religion, orientation, health or politics: "
            f"{', '.join(map(repr, sensitive[:3]))}. Inferring these from faces is restricted or forbidden in many "
            "places (EU AI Act Art. 5(1)(g)). If you may do it, give the reason, which is recorded in the run: "
            '--allow-sensitive "..."'
        )
    storage = StorageOptions(endpoint_url=config.storage.endpoint_url, deadline_s=config.storage.deadline_s)
    output = open_output(config.output, storage)
    checkpoint = inspect_checkpoint(
        config.model, revision=config.revision, fetch_remote=lambda uri: fetch_folder(uri, storage)
    )
    job = LabelJob(config=config, questions=questions, checkpoint=checkpoint, storage=storage, output=output)
    record = read_record(output)
    if record is not None:
        check_fingerprint(output, record, kind="label", fingerprint=job.fingerprint)
    return job


def open_images(job: LabelJob) -> ImageInput:
    """Opens the input of a job. Raises ConfigError if nothing usable is there."""
    names = label_schema(job.questions.attributes).names
    config = job.config
    return open_input(
        config.images, root=config.root, storage=job.storage, reserved=names, bytes_column=config.bytes_column
    )


def begin_label_run(job: LabelJob) -> RunRecord:
    """The run in the output folder; for a new one the input is listed and frozen first."""

    def plan() -> tuple[Plan, dict[str, Any], pa.Schema]:
        images = open_images(job)
        logger.info("plan listing images=%s kind=%s", job.config.images, images.kind)
        plan = write_plan(job.output, images.tables, limit=job.config.limit, unique_by_source=images.kind == "prefix")
        logger.info("plan rows=%d shards=%d bytes=%d", plan.num_rows, plan.num_shards, plan.num_bytes)
        source = {"kind": images.kind, "root": images.root, "bytes_column": images.bytes_column}
        return plan, source, images.carried

    return open_run(
        job.output,
        kind="label",
        fingerprint=job.fingerprint,
        config=asdict(job.config),
        versions={name: metadata.version(name) for name in ("ray", "pyarrow", "numpy", *_SCORING_PACKAGES)}
        | {"faceattr": faceattr.__version__},
        notes=job.notes,
        write_plan=plan,
    )


def open_version(job: LabelJob, record: RunRecord) -> RunVersion:
    """The version of the run that this command works on."""
    schema = label_schema(job.questions.attributes, record.carried_schema)
    return RunVersion(job.output, record, schema, retry_failed=job.config.retry_failed)


def label_pending(job: LabelJob, record: RunRecord, version: RunVersion) -> None:
    """Labels the rows of uncommitted shards and commits them.

    Raises:
        RunError: too many images are bad, or the cluster failed; what is committed stays.
    """
    work = version.work()
    num_pending = sum(len(record.plan.shard_range(shard)) for shard in work.pending.tolist())
    if not num_pending:
        return
    logger.info("label pending_rows=%d pending_shards=%d of=%d", num_pending, len(work.pending), record.plan.num_shards)
    actors = plan_actors(job.config.workers)
    logger.info("label %s", " ".join(f"{key}={value}" for key, value in asdict(actors).items()))
    binary = [each.name for each in job.questions.attributes.attributes if each.kind == "binary"]
    progress = Progress(record.plan.num_rows, record.plan.num_rows - num_pending, binary)
    budget = ErrorBudget(job.config.max_error_share)
    started = time.time()

    def on_rows(rows: pa.Table) -> None:
        progress.add(rows)
        budget.add(rows)

    try:
        with cluster_errors():
            commit_all(version.committer(work), stream_labels(job, record, version, work, actors), on_rows=on_rows)
    finally:
        progress.close()
        session = {
            "started": started,
            "version": version.version,
            "samples": progress.samples,
            "rows": progress.num_rows,
        }
        job.output.put(f"sessions/{started:.3f}.json", json.dumps(session).encode())


def stream_labels(
    job: LabelJob, record: RunRecord, version: RunVersion, work: Work, actors: ActorPlan
) -> Iterator[pa.Table]:
    """Label rows of the pending shards, in any order."""
    config = job.config
    block_rows = actors.block_rows(len(work.pending) * record.plan.shard_size, config.workers.block_rows)
    return stream_rows(
        work,
        ImageStream(
            run_uri=job.output.uri,
            root=record.source["root"],
            bytes_column=record.source["bytes_column"],
            storage=job.storage,
            limits=ImageLimits(max_bytes=config.decode.max_bytes, max_pixels=config.decode.max_pixels),
            decode_timeout_s=config.decode.timeout_s,
            size_px=job.checkpoint.size_px,
        ),
        actor=VqaActor,
        actor_kwargs={
            "build_scorer": scorer_recipe(job, actors),
            "questions": job.questions,
            "schema": version.schema,
        },
        actors=actors,
        block_rows=block_rows,
        wait_s=config.workers.wait_s,
        name="faceattr_label",
    )


def scorer_recipe(job: LabelJob, actors: ActorPlan) -> BuildScorer:
    """The recipe that each actor makes its scorer by."""
    config = job.config
    return BuildScorer(
        "faceattr.vqa.build:build_scorer",
        {
            "model": config.model,
            "revision": job.checkpoint.revision,
            "weights_id": job.checkpoint.weights_id,
            "questions": job.questions,
            "engine": config.engine,
            "question_start": config.question_start,
            "batch_size": actors.batch_size,
            "threads": actors.threads,
            "storage": job.storage,
        },
    )


def publish_labels(job: LabelJob, version: RunVersion) -> Manifest:
    """Proves that every row is there once, judges the rejects, publishes, and draws the report.

    Raises:
        RunError: rows are missing, or too many images are bad; nothing is published then.
    """
    budget = ErrorBudget(job.config.max_error_share)
    statistics = LabelStatistics(job.questions)
    manifest = version.verify([budget.observe, statistics.observe])
    budget.judge()
    version.publish(manifest)
    write_label_report(job.output, version.record, manifest, statistics)
    return manifest


def summarise(job: LabelJob, manifest: Manifest) -> str:
    """What the user reads at the end."""
    good = manifest.status_counts.get(OK, 0)
    reasons = [f"  {status}: {count:,}" for status, count in manifest.status_counts.items() if status != OK]
    lines = [
        f"published version {manifest.version}: {manifest.num_rows:,} rows in {len(manifest.files):,} files",
        f"labelled {good:,}, rejected {manifest.num_rows - good:,}",
        *reasons,
        f"labels  {join_uri(job.output.uri, manifest.files[0].key.rpartition('/')[0])}/*.parquet",
        f"report  {join_uri(job.output.uri, report_key(manifest.version))}",
    ]
    if reasons:
        lines.append("the rejected rows stand in the table with status and error; --retry-failed does them again")
    return "\n".join(lines)
