"""Reports the trials of a search to its loggers, each as a run of its own, in one group."""

import logging
from typing import Any

from faceattr.data.runs.version import read_record
from faceattr.data.stores.store import Store
from faceattr.errors import FaceattrError
from faceattr.jobs.search.job import SearchJob
from faceattr.jobs.trackers.tracked import TrackedRun, list_settings, tracked
from faceattr.search.records import TrialRecord

logger = logging.getLogger(__name__)


def track_trial(job: SearchJob, store: Store, record: TrialRecord) -> None:
    """Reports a trial that has ended: its settings, the objective of every epoch, and the figures of the best one.

    Args:
        job: the search.
        store: the folder of its trials: of the search, or of the repeats in it.
        record: the trial.
    """
    if not job.config.loggers:
        return
    search = read_record(job.output)
    assert search is not None, "trials are run after the record is written"
    folder = store.uri.removeprefix(job.output.uri).strip("/")
    name = "-".join(filter(None, (folder, record.name)))
    settings: dict[str, Any] = {**list_settings(job.base), **record.values, "status": record.status}
    run = TrackedRun(run_id=f"{search.run_id}-{name}", name=name, group=search.run_id, settings=settings)
    try:
        with tracked(job.config.loggers, run) as log:
            for epoch, objective in enumerate(record.history):
                log({"objective": objective}, epoch)
            if record.judgement is not None:
                log({"objective": record.judgement.objective, **record.figures}, max(record.num_epochs - 1, 0))
    except FaceattrError as error:  # the search itself counts, and its own files have the record
        logger.warning("trial %s is not reported: %s", name, error)
