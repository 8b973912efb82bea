"""The function of a Tune trial: one trial of the search, a stack of trials, or one trial by a group of workers."""

import os
import tempfile
from typing import Any

import ray
import ray.train
import torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from faceattr.devices import given_device
from faceattr.errors import FaceattrError
from faceattr.jobs.cluster.milestones import reach
from faceattr.jobs.search.inputs import SearchPlan
from faceattr.jobs.search.stack import train_stack
from faceattr.jobs.search.trial import TRIAL, train_trial
from faceattr.jobs.train.worker_group import build_trainer, group_environment
from faceattr.search.records import TrialReport
from faceattr.search.trial_queue import TrialGroup
from faceattr.training.loop.ranks import Ranks, join_ranks

_PUT_DOWN_S = "60"


def run_work(config: dict[str, Any], plan: SearchPlan) -> None:
    """Runs one trial of the search, or a stack of trials, as the function of a Tune trial.

    Raises:
        Exception: it failed; the driver is told the reason before, since Tune does not pass it on.
    """
    # When a trial is stopped, Tune gives it 2 s by default to close what it reads with; then the process is killed.
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = _PUT_DOWN_S
    work = TrialGroup.from_tune(config)
    try:
        _run(work, plan)
    except Exception as error:
        why = str(error) if isinstance(error, FaceattrError) else f"{type(error).__name__}: {error}"
        # Reported for an epoch before the first, so that it is compared with nothing.
        report = TrialReport(records=work.fail(why), state="failed")
        tune.report({"epoch": 0, "objective": float("nan"), "report": report.encode()})
        raise


def _run(work: TrialGroup, plan: SearchPlan) -> None:
    reach(TRIAL, "imports done")
    trials = plan.trials
    torch.set_num_threads(trials.threads or max(1, int(trials.cpus)))
    device = given_device(trials.gpus > 0)
    if work.stacked:
        train_stack(plan, work.numbers, work.settings, tune.report, device=device)
    elif plan.base.workers.num_workers > 1:
        _train_group(plan, work)
    else:
        train_trial(plan, work.numbers[0], work.settings[0], tune.report, ranks=Ranks(device=device))


def _train_group(plan: SearchPlan, work: TrialGroup) -> None:
    """Trains one trial by several workers, which Ray Train places; this process waits for them."""
    workers = plan.base.workers
    with tempfile.TemporaryDirectory(prefix="faceattr-trial-") as scratch, group_environment(workers):
        build_trainer(
            _train_worker,
            {"plan": plan, "work": work},
            workers,
            name=work.name,
            storage_path=scratch,
            callbacks=[TuneReportCallback()],
        ).fit()


def _train_worker(settings: dict[str, Any]) -> None:
    plan: SearchPlan = settings["plan"]
    work: TrialGroup = settings["work"]
    context = ray.train.get_context()
    device = given_device(plan.base.workers.use_gpu, ray.train.torch.get_device)
    torch.set_num_threads(plan.base.workers.threads or max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    train_trial(
        plan,
        work.numbers[0],
        work.settings[0],
        ray.train.report,
        ranks=join_ranks(device, rank=context.get_world_rank(), world_size=context.get_world_size()),
    )
