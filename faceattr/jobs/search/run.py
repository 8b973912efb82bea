"""The search: trials of one space on packed runs, by Ray Tune, and their results.

run.json                    config, space, shared settings, fingerprint, versions
survey.json                 counts of the labels
features/                   activations that trials share
trials/t0003/               settings, record, and the model of the best one so far
tensorboard/
repeats/trials/t0006/       repeats of the best trials with other seeds, if there are any
trials.parquet, best.yaml, best/, front/, test.json, report.html
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray

from faceattr.config.search import StopConfig
from faceattr.data.runs.version import read_record
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError
from faceattr.jobs.cluster.session import cluster_errors
from faceattr.jobs.search.fill_cache import FeatureTask, fill_features, plan_feature_tasks
from faceattr.jobs.search.inputs import SearchPlan
from faceattr.jobs.search.job import SET_ATTRIBUTES, SearchJob
from faceattr.jobs.search.stack import stack_key
from faceattr.jobs.search.track import track_trial
from faceattr.jobs.search.tune import run_trials
from faceattr.jobs.train.feed import reading_cpus
from faceattr.jobs.train.survey import load_surveys, survey_data
from faceattr.search.cache_choice import all_cached, possible_depths
from faceattr.search.comparison.repeats import REPEATS_FOLDER, RepeatedTrial, gather_repeats, list_repeats
from faceattr.search.records import TrialRecord, begin_trial, read_begun, read_records
from faceattr.search.sampler import Sampler
from faceattr.search.trial_queue import TrialQueue
from faceattr.training.inputs import TrainingInputs
from faceattr.training.label_needs import refuse_unlabelled
from faceattr.training.label_survey import SplitSurvey


def survey_search(job: SearchJob) -> dict[str, SplitSurvey]:
    """Reads all labels once.

    Raises:
        ConfigError: an attribute has no label.
        RunError, StorageError: a file is damaged, or cannot be read.
    """
    # Without a run.json, a survey there was left by an attempt that was refused, perhaps with other attributes.
    surveys = load_surveys(job.output) if read_record(job.output) is not None else None
    if surveys is None:
        with cluster_errors():
            surveys = survey_data(job.data, job.attributes, job.base.feed.balance, job.output, job.storage)
    empty = [name for name in job.attributes.names if name not in surveys["train"].labelled]
    refuse_unlabelled(job.attributes, empty, SET_ATTRIBUTES)
    return surveys


def plan_search(job: SearchJob, surveys: dict[str, SplitSurvey]) -> SearchPlan:
    """Returns what every trial needs to know."""
    return SearchPlan(
        base=job.base,
        inputs=TrainingInputs(data=job.data, attributes=job.attributes, surveys=surveys, storage=job.storage),
        output_uri=job.output.uri,
        trials_uri=job.output.uri,
        judge=job.judge,
        caches=job.caches,
        features=job.config.features,
        trials=job.config.trials,
        keep=max(1, job.config.repeat.top),
        keep_front=job.config.objective.two,
    )


def fill_caches(job: SearchJob, plan: SearchPlan) -> int:
    """Computes the shared activations that are missing; returns the number of images.

    Raises:
        RunError: an image or a file cannot be read, or the cluster failed.
    """
    caches = plan.caches
    if not caches.boundaries:
        return 0
    gpus = min(1.0, job.config.trials.gpus)
    with cluster_errors():
        tasks: list[FeatureTask] = ray.get(
            ray.remote(plan_feature_tasks)
            .options(num_cpus=0.5)
            .remote(plan.source, caches.boundaries, plain=caches.plain, num_views=caches.num_views)
        )
        return sum(fill_features(plan.source, task, job.facts, gpus=gpus) for task in tasks)


def run_search(job: SearchJob, plan: SearchPlan) -> list[TrialRecord]:
    """Runs the trials that have not ended; returns all.

    Raises:
        RunError: the cluster failed; trials that have ended stay.
    """
    config, records = job.config, read_records(job.output)
    sampler = Sampler(
        job.space,
        config.algorithm,
        seed=config.seed,
        two_objectives=config.objective.two,
        num_samples=job.num_samples,
        records=records,
        num_begun=len(read_begun(job.output)),
        first=job.first_trial,
    )
    learns = config.algorithm == "tpe"
    stacks = config.trials.stack == "auto" and _all_stack(job, plan)
    whole = min(job.num_samples, config.trials.stack_size)
    work = TrialQueue(
        job.output,
        sampler,
        num_samples=job.num_samples,
        round_size=(min(whole, max(8, job.num_samples // 4)) if learns else whole) if stacks else 1,
        learns=learns,
        stack_key=_stack_key(job, plan, stacks=config.trials.stack == "auto"),
    )
    _run_queue(job, plan, work, job.output, config.stop)
    return list(work.ordered())


def repeat_best(job: SearchJob, plan: SearchPlan, trials: Sequence[TrialRecord]) -> list[RepeatedTrial]:
    """Trains the best trials again with other seeds; returns them, the one with the best mean first.

    Empty if no repeats are asked for, or no trial has finished.

    Raises:
        RunError: the cluster failed; repeats that have ended stay.
    """
    settings = job.config.repeat
    if not settings.top:
        return []
    plan = replace(plan, trials_uri=join_uri(plan.output_uri, REPEATS_FOLDER), keep=0, keep_front=False)
    store = open_store(plan.trials_uri, job.storage)
    wanted = dict(list_repeats(settings, trials, shared_seed=job.base.seed))
    begun = read_begun(store)
    for number, values in wanted.items():
        if number not in begun:
            begin_trial(store, number, values)
    # One by one: a stack reads cached features, and with another seed random weights and cached views are other ones.
    alone = _stack_key(job, plan, stacks=False)
    queue = TrialQueue(store, None, num_samples=len(wanted), round_size=1, learns=False, stack_key=alone)
    model = job.base.model
    is_cached = (model.pretrained or model.checkpoint is not None) and not job.config.features.views
    _run_queue(job, plan, queue, store, StopConfig(enabled=False), may_be_cached=is_cached)
    return gather_repeats(settings, trials, queue.records)


def _stack_key(job: SearchJob, plan: SearchPlan, *, stacks: bool) -> Callable[[int, Mapping[str, Any]], str | None]:
    def key(number: int, values: Mapping[str, Any]) -> str | None:
        config = plan.config_of(number, values)
        return stack_key(config, job.facts, plan.caches) if stacks else None

    return key


def _run_queue(
    job: SearchJob, plan: SearchPlan, work: TrialQueue, store: Store, stop: StopConfig, *, may_be_cached: bool = True
) -> None:
    if not work.is_over:
        concurrent = _count_concurrent(job, plan, may_be_cached=may_be_cached)
        plan = replace(plan, num_concurrent=min(concurrent or 1, work.num_samples))
        run_trials(plan, work, store, stop=stop, max_concurrent=concurrent, track=partial(track_trial, job, store))


def _count_concurrent(job: SearchJob, plan: SearchPlan, *, may_be_cached: bool) -> int | None:
    """Limits the trials that run at the same time, if they need more than Tune counts: own workers, or decoding tasks.

    Without room for these, all trials would wait for ever. None: Tune's own count is right.

    Raises:
        ConfigError: there is not enough room.
    """
    trials, workers, feed = job.config.trials, job.base.workers, job.base.feed
    cached = may_be_cached and all_cached(job.space, job.base, job.facts, plan.caches)
    grouped = workers.num_workers > 1
    if cached and not grouped:
        return trials.max_concurrent
    asked = {"CPU": trials.cpus, "GPU": trials.gpus}
    claimed = dict(asked)
    if not cached:
        claimed["CPU"] += workers.num_workers * reading_cpus() + feed.decode_cpus
    if grouped:
        claimed["CPU"] += workers.num_workers * workers.cpus_per_worker
        claimed["GPU"] += workers.num_workers * workers.use_gpu
    cluster = ray.cluster_resources()
    rooms = {name: int(cluster.get(name, 0.0) / amount) for name, amount in claimed.items() if amount}
    scarce = min(rooms, key=lambda name: rooms[name])
    if rooms[scarce] < 1:
        raise ConfigError(
            f"--trials.{scarce.lower()}s {asked[scarce]:g}: a trial with its workers and decoding claims "
            f"{claimed[scarce]:g} {scarce}s, the cluster has {cluster.get(scarce, 0.0):g}; "
            "lower it, or the trained config's workers"
        )
    return min(rooms[scarce], trials.max_concurrent or rooms[scarce])


def _all_stack(job: SearchJob, plan: SearchPlan) -> bool:
    """Whether trials of this space train heads alone. Random settings are drawn all at once even if some do not."""
    heads_only = {"all", -1, job.facts.num_blocks}
    depths = set(possible_depths(job.space, job.base))
    if job.config.algorithm == "random":
        return bool(depths & heads_only) and job.facts.num_blocks in plan.caches.boundaries
    return depths <= heads_only and job.facts.num_blocks in plan.caches.boundaries
