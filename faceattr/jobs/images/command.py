"""Runs a checked image job: begins or resumes its run, and publishes it."""

from collections.abc import Callable
from typing import TypeVar

from faceattr.data.runs.changes.change import refuse_begun_deletion
from faceattr.data.runs.changes.rewriting import rewrite_shards
from faceattr.data.runs.changes.update import find_updates
from faceattr.data.runs.lease import drive
from faceattr.data.runs.version import Manifest, RunVersion, read_record
from faceattr.data.stores.open import probe_store
from faceattr.data.stores.store import has_object
from faceattr.jobs.cluster.session import ray_session, stop_on_sigterm
from faceattr.jobs.images.dry_run import describe_preflight
from faceattr.jobs.images.run import ImageJob, begin_run, open_images, open_version, process_pending
from faceattr.reports.pages import report_key

JobT = TypeVar("JobT", bound=ImageJob)


def run_images(
    job: JobT, *, publish: Callable[[JobT, RunVersion], Manifest], summarise: Callable[[JobT, Manifest], str]
) -> str:
    """Plans, processes pending rows, proves that no row is missing or duplicated, and publishes; or does a dry run.

    Args:
        job: the checked command.
        publish: proves, publishes and writes the report.
        summarise: describes a published version in words.

    Returns:
        The text that the user reads at the end.

    Raises:
        RunError: too many images are bad, or the cluster failed; committed shards stay.
    """
    if job.config.dry_run:
        with ray_session(job.config.ray), job.settled() as settled:
            return describe_preflight(settled)
    probe_store(job.output)
    with drive(job.output), job.settled() as settled:
        refuse_begun_deletion(job.output)
        is_new = read_record(job.output) is None
        run = begin_run(settled)
        version = open_version(settled, run)
        was_finished = version.finished
        text = _finish(settled, version, publish, summarise)
        if is_new or not job.config.update or version.published is None:
            return text
        texts = [] if was_finished else [text]
        for change in find_updates(settled.output, run, lambda: open_images(settled)):
            texts.append(_finish(settled, open_version(settled, run, change), publish, summarise))
        unchanged = f"nothing to do: no image is new, changed or gone\n{summarise(settled, version.published)}"
        return "\n".join(texts) or unchanged


def _finish(
    job: JobT,
    version: RunVersion,
    publish: Callable[[JobT, RunVersion], Manifest],
    summarise: Callable[[JobT, Manifest], str],
) -> str:
    """Does the rest of a version and publishes it."""
    if version.published is not None:
        version.mark_published()
        # Without a report, the session that published it was killed.
        if job.redraws_report or not has_object(job.output, report_key(version.version)):
            publish(job, version)
        return f"nothing to do: this run is finished\n{summarise(job, version.published)}"
    with ray_session(job.config.ray), stop_on_sigterm():
        rewrite_shards(version)
        process_pending(job, version)
    return summarise(job, publish(job, version))
