"""The pack run: labels and images -> splits -> shards of encoded images and labels, one folder per split.

Two passes over the images where their content is not known yet, one where a label run has hashed them:

    scan   every image is hashed; a separate run in scan/, so that it resumes where it was stopped
    plan   splits by content and person, copies resolved, rows shuffled; frozen (`data/packed/plan.py`)
    pack   every image is read, checked by decoding it, and written into its shard
"""

import logging
from dataclasses import asdict
from importlib import metadata
from typing import Any

import pyarrow as pa

import faceattr
from faceattr.data.packed.plan import label_fields_of, write_pack_plan
from faceattr.data.packed.reader import PACK_KIND
from faceattr.data.packed.writer import (
    PackedStatistics,
    carried_schema,
    open_packed_version,
    publish_packed,
    verify_packed,
)
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.reject_counts import count_rejected
from faceattr.data.runs.version import RunRecord, RunVersion, read_record
from faceattr.data.sources.gather import ImagePlace
from faceattr.errors import ConfigError
from faceattr.jobs.cluster.progress import ErrorBudget
from faceattr.jobs.cluster.session import cluster_errors
from faceattr.jobs.cluster.watch_run import watch_run
from faceattr.jobs.pack.job import PACKING_PACKAGES, PackJob
from faceattr.jobs.pack.scan import find_rows, measure_row_bytes
from faceattr.jobs.pack.shard_tasks import checker_on_cluster, make_shards
from faceattr.reports.pack import write_pack_report

logger = logging.getLogger(__name__)

# Tasks wait for the store about as long as they compute.
_PACK_CPUS = 0.5


def find_published(job: PackJob) -> RunVersion | None:
    """Returns the finished version that this command would make, if it exists."""
    record = read_record(job.output)
    if record is None:
        return None
    version = open_version(job, record)
    return version if version.finished else None


def begin_pack_run(job: PackJob) -> RunRecord:
    """Begins or reopens the run; for a new one, images are hashed where needed, and the plan is frozen.

    Raises:
        ConfigError: the folder holds another run, or there is nothing to pack.
        RunError: too many images are unusable, or the cluster failed.
    """

    def plan() -> tuple[Plan, dict[str, Any], pa.Schema]:
        gathered = job.gathered
        if gathered is None:  # the record that prepare_pack_job saw is gone
            raise ConfigError(f"{job.output.uri}: run.json has vanished; start the command again")
        labels = gathered.labels
        found = find_rows(job, gathered)
        logger.info("plan drawing splits")
        plan, facts = write_pack_plan(
            job.output,
            found.read,
            attributes=labels.attributes,
            scored=labels.scored,
            rules=job.split_rules(gathered),
            policy=job.config.conflicts,
            row_bytes=measure_row_bytes(job, gathered, found),
            max_shard_bytes=job.config.shard_mb * 2**20,
            near_copies=job.near_copies,
        )
        logger.info("plan rows=%d shards=%d conflicts=%d", plan.num_rows, plan.num_shards, facts.conflicts)
        source: dict[str, Any] = {
            "places": [asdict(place) for place in gathered.places],
            "facts": facts.to_json(),
            "rejects": found.rejects,
            "selection": None if job.selection is None else asdict(job.selection),
        }
        if job.num_dropped is not None:
            source["dropped_issues"] = job.num_dropped
        return plan, source, carried_schema(label_fields_of(labels.attributes, labels.scored))

    return open_run(
        job.output,
        kind=PACK_KIND,
        fingerprint=job.fingerprint,
        config=asdict(job.config),
        versions={name: metadata.version(name) for name in ("ray", "pyarrow", "numpy", *PACKING_PACKAGES)}
        | {"faceattr": faceattr.__version__},
        notes=job.notes,
        write_plan=plan,
    )


def open_version(job: PackJob, record: RunRecord) -> RunVersion:
    """Opens the version of the run that this command works on."""
    return open_packed_version(job.output, record, retry_failed=job.config.retry_failed)


def pack_pending(job: PackJob, version: RunVersion) -> None:
    """Packs the rows of uncommitted shards.

    Raises:
        RunError: too many images are bad, or the cluster failed; committed shards stay.
    """
    work, plan = version.work(), version.record.plan
    if not work.num_rows:
        return
    logger.info("pack pending_rows=%d pending_shards=%d of=%d", work.num_rows, len(work.pending), plan.num_shards)
    make = job.pack_images((ImagePlace(**place) for place in version.record.source["places"]), version.schema)
    budget = ErrorBudget(job.config.max_error_share, plan.num_rows, lambda: count_rejected(version, work, job.storage))
    with watch_run(version, work, budget) as on_rows, cluster_errors():
        for rows in make_shards(work, version, make, storage=job.storage, cpus=_PACK_CPUS, name="faceattr_pack"):
            on_rows(rows)


def publish_pack(job: PackJob, version: RunVersion) -> PackedStatistics:
    """Proves that every row exists exactly once, judges the rejects, publishes, and writes the report.

    Raises:
        RunError: rows are missing, or too many images are bad; nothing is published then.
    """
    budget = ErrorBudget(job.config.max_error_share, version.record.plan.num_rows)
    with cluster_errors():
        check = checker_on_cluster(version, job.storage, name="faceattr_verify")
        manifest, statistics = verify_packed(version, [budget.observe], check=check)
    budget.judge()
    publish_packed(version, manifest, statistics)
    write_pack_report(version, statistics)
    return statistics
