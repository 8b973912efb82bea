"""Runs the work of a search by Ray Tune: schedules trials, shows them on the dashboard, stops the weak ones.

Tune keeps nothing that a search needs: its own files are in a temporary folder, and what must persist is in the trials'
records. So resuming a search reads JSON, and unpickles nothing.
"""

import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from faceattr.config.search import StopConfig
from faceattr.data.stores.store import Store
from faceattr.errors import RunError
from faceattr.jobs.cluster.metrics import SearchFigures
from faceattr.jobs.cluster.session import cluster_errors
from faceattr.jobs.search.inputs import MODEL_FOLDER, SearchPlan
from faceattr.jobs.search.trial import discard_progress
from faceattr.jobs.search.worker import run_work
from faceattr.search.comparison.halving import BoundsHalving, list_rungs
from faceattr.search.progress_table import Board
from faceattr.search.records import TrialRecord, TrialReport, trial_folder
from faceattr.search.trial_queue import TrialGroup, TrialQueue

logger = logging.getLogger(__name__)
_NAME = "search"
_DIED = "its process ended without a message: it may have run out of memory, or its node was lost"
# Seconds between Tune's snapshots of its state: so long that there are none, since a search does not need them.
_NO_SNAPSHOTS_S = str(10**9)
_MOST_PIECES = 10**6


class _OfDriver:
    """Tune pickles and copies its settings for snapshots that are not used; what the driver holds is left out."""

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class WorkSearcher(_OfDriver, Searcher):
    """Gives Tune the groups of a trial queue, up to a number at a time.

    Tune's own limit is not used: it would count a trial forever that Tune gave up without telling its searcher.
    """

    def __init__(self, work: TrialQueue, max_concurrent: int | None) -> None:
        super().__init__(metric="objective", mode="max")
        self._work, self._max_concurrent = work, max_concurrent

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next group; None while it must wait."""
        del trial_id
        if self._max_concurrent is not None and self._work.num_pieces >= self._max_concurrent:
            return None
        work = self._work.take()
        if work is not None:
            return work.to_tune()
        return Searcher.FINISHED if self._work.is_over else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: the callback, which knows the error, tells the queue."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the records are what is stored."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing; see `save`."""


class WorkCallback(_OfDriver, tune.Callback):
    """Records how trials end, and shows their progress."""

    def __init__(
        self,
        work: TrialQueue,
        board: Board,
        store: Store,
        *,
        num_epochs: int,
        figures: SearchFigures,
        track: Callable[[TrialRecord], None] = lambda record: None,
    ) -> None:
        self._work, self._board, self._store, self._track = work, board, store, track
        self._num_epochs, self._figures = num_epochs, figures
        self._started_s: dict[str, float] = {}
        self._given_back: set[str] = set()

    def on_step_end(self, iteration: int, trials: Sequence[Any], **info: Any) -> None:
        """Takes back trials that Tune gave up without a notice.

        Tune does this when the process that a trial was to reuse is still busy with the trial before it.
        """
        for trial in trials:
            if trial.status == "ERROR" and trial.trial_id not in self._given_back:
                self._given_back.add(trial.trial_id)
                if self._work.give_back(_group_of(trial)):
                    logger.warning("trial %s could not reuse a process; it starts again in another", trial)

    def on_trial_start(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Starts the clock of a trial."""
        self._started_s.setdefault(trial.trial_id, time.monotonic())

    def on_trial_result(
        self, iteration: int, trials: Sequence[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Shows the report of an epoch."""
        if "report" in result and TrialReport.decode(result["report"]).state == "running":
            epoch = f"{result['epoch']}/{self._num_epochs}"
            self._board.row(str(trial), epoch, result["objective"], result["auxiliary"], "running")

    def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Records the trials of a group that ended or was stopped."""
        report = _last_report(trial)
        if report is None or report.state == "failed":
            self.on_trial_error(iteration, trials, trial)
            return
        seconds = time.monotonic() - self._started_s.get(trial.trial_id, time.monotonic())
        for record in report.records:
            self._end(record if record.stacked else replace(record, seconds=seconds))

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
        """Records the trials of a group that failed."""
        work, report = _group_of(trial), _last_report(trial)
        told = report is not None and report.state == "failed"
        records = report.records if report is not None and told else work.fail(_DIED)
        logger.warning("trial %s failed: %s", work.name, records[0].error)
        for record in records:
            self._end(record)

    def _end(self, record: TrialRecord) -> None:
        self._work.end(record)
        self._track(record)
        self._figures.show(*count_trials(self._work))
        discard_progress(self._store, f"{trial_folder(record.number)}/{MODEL_FOLDER}")
        judgement = record.judgement
        finished = judgement if record.status == "finished" else None
        self._board.finished(None if finished is None else finished.objective, record.name)
        self._board.row(
            record.name,
            f"{record.num_epochs}/{self._num_epochs}",
            None if judgement is None else judgement.objective,
            None if judgement is None else judgement.auxiliary,
            record.status,
        )


def count_trials(work: TrialQueue) -> tuple[dict[str, int], float | None]:
    """Counts trials by how they ended; also returns the objective of the best finished one."""
    records = work.ordered()
    objectives = [each.judgement.objective for each in records if each.status == "finished" and each.judgement]
    return dict(Counter(each.status for each in records)), max(objectives, default=None)


@dataclass(frozen=True)
class _PastTrial:
    """The attributes of a trial that a scheduler reads."""

    trial_id: str


class _BoundsScheduler(_OfDriver, FIFOScheduler):
    """Stops trials by `BoundsHalving`."""

    def __init__(self, halving: BoundsHalving, records: Sequence[TrialRecord]) -> None:
        super().__init__()
        self._halving = halving
        for record in records:
            for epoch, (objective, (low, high)) in enumerate(zip(record.history, record.bounds, strict=False), 1):
                halving.stops(record.name, epoch, objective=objective, low=low, high=high)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns whether a trial goes on."""
        del tune_controller
        if "low" not in result:  # of a stack, or of a trial that failed
            return str(TrialScheduler.CONTINUE)
        bounds = {name: result[name] for name in ("objective", "low", "high")}
        stops = self._halving.stops(trial.trial_id, result["epoch"], **bounds)
        return str(TrialScheduler.STOP if stops else TrialScheduler.CONTINUE)


def build_scheduler(settings: StopConfig, *, num_epochs: int, records: Sequence[TrialRecord] = ()) -> TrialScheduler:
    """Builds successive halving on our own count of epochs, and tells it of the trials that have ended.

    Tune's own count starts from 0 when a trial resumes from a checkpoint.

    Args:
        settings: settings of the search.
        num_epochs: epochs of a trial.
        records: records of trials that trained alone.
    """
    if not settings.enabled:
        return FIFOScheduler()
    grace = settings.grace_epochs
    assert grace != "auto", "a search settles it before it begins"
    if num_epochs <= grace:
        return FIFOScheduler()
    if settings.rule == "bounds":
        return _BoundsScheduler(
            BoundsHalving(list_rungs(grace, settings.reduction, num_epochs), settings.reduction), records
        )
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric="objective",
        mode="max",
        max_t=num_epochs,
        grace_period=grace,
        reduction_factor=settings.reduction,
        stop_last_trials=False,
    )
    for record in records:
        past = _PastTrial(record.name)
        scheduler.on_trial_add(None, past)
        for epoch, objective in enumerate(record.history):
            scheduler.on_trial_result(None, past, {"epoch": epoch + 1, "objective": objective})
    return scheduler


def run_trials(
    plan: SearchPlan,
    work: TrialQueue,
    store: Store,
    *,
    stop: StopConfig,
    max_concurrent: int | None,
    track: Callable[[TrialRecord], None],
) -> None:
    """Runs all trials to their end.

    Args:
        plan: what the trials need to know.
        work: the trials to run.
        store: folder of the search.
        stop: when weak trials are stopped.
        max_concurrent: groups that run at the same time.
        track: is told every trial that has ended.

    Raises:
        RunError: the cluster failed; records of trials that have ended stay.
    """
    num_epochs = plan.base.optim.epochs
    board = Board(work.num_samples, len(work.records))
    for record in work.ordered():
        if record.status == "finished" and record.judgement is not None:
            board.finished(record.judgement.objective, record.name, num=0)
    figures = SearchFigures()
    figures.show(*count_trials(work))
    trials = plan.trials
    trainable = tune.with_resources(tune.with_parameters(run_work, plan=plan), {"CPU": trials.cpus, "GPU": trials.gpus})
    environment = {
        "TUNE_GLOBAL_CHECKPOINT_S": _NO_SNAPSHOTS_S,
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
    }
    os.environ.update(environment)
    with tempfile.TemporaryDirectory(prefix="faceattr-search-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=WorkSearcher(work, max_concurrent),
                scheduler=build_scheduler(stop, num_epochs=num_epochs, records=work.ordered()),
                num_samples=_MOST_PIECES,
                # A fresh process would import torch and timm for each trial, which takes longer than many trials train.
                # One that waits for a group must die when its trial is stopped, or its group would go on training.
                reuse_actors=plan.base.workers.num_workers == 1,
                trial_name_creator=_piece_name,
                trial_dirname_creator=_piece_name,
            ),
            run_config=tune.RunConfig(
                name=_NAME,
                storage_path=scratch,
                verbose=0,
                callbacks=[WorkCallback(work, board, store, num_epochs=num_epochs, figures=figures, track=track)],
            ),
        )
        try:
            with cluster_errors():
                _fit_in_thread(tuner)
        finally:
            figures.close()
            _keep_events(Path(scratch) / _NAME, store)
    if not work.is_over:
        raise RunError("Tune has ended, but trials are left; resume the search with --resume")


def _piece_name(trial: Any) -> str:
    return _group_of(trial).name


def _group_of(trial: Any) -> TrialGroup:
    return TrialGroup.from_tune(trial.config)


def _last_report(trial: Any) -> TrialReport | None:
    """Returns the last report of the process of one of Tune's trials; None if there was none."""
    text = (trial.last_result or {}).get("report")
    return None if text is None else TrialReport.decode(text)


def _fit_in_thread(tuner: tune.Tuner) -> None:
    """Runs a tuner to its end.

    In a thread: in the main thread Tune would install its own handler for SIGINT, which signals a lost lease here.
    """
    found: list[BaseException] = []

    def run() -> None:
        try:
            tuner.fit()
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            found.append(error)

    thread = threading.Thread(target=run, name="search", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
    if found:
        raise found[0]


def _keep_events(folder: Path, store: Store) -> None:
    """Copies TensorBoard's files into the folder of the search."""
    for path in sorted(folder.glob("*/events.out.tfevents.*")):
        store.put(f"tensorboard/{path.parent.name}/{path.name}", path.read_bytes())
