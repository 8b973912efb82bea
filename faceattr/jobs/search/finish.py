"""The results of a search: table of trials, the winner's settings and model, its figures on test, the report."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
import torch
import yaml

from faceattr.config.overrides import dump_config, override
from faceattr.data.formats.json_files import decode_versioned, encode_versioned
from faceattr.data.formats.parquet import encode_table
from faceattr.data.runs.version import RunRecord
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.devices import given_device
from faceattr.errors import RunError
from faceattr.jobs.cluster.machines.cores import count_decoders
from faceattr.jobs.cluster.session import cluster_errors
from faceattr.jobs.search.inputs import MODEL_FOLDER, SearchPlan
from faceattr.jobs.search.job import SearchJob
from faceattr.jobs.train.feed import Feed, FeedPlan
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.saved import CONFIG_FILE, MODEL_FILES
from faceattr.search.comparison.front import find_front
from faceattr.search.comparison.repeats import RepeatedTrial, rank_finished
from faceattr.search.comparison.ties import describe_ties
from faceattr.search.judge import compute_final_figures
from faceattr.search.records import TrialRecord, best_trial, tabulate, trial_folder
from faceattr.training.loop.forward import Forward

TRIALS_KEY = "trials.parquet"
BEST_CONFIG_KEY = "best.yaml"
BEST_FOLDER = "best"
FRONT_FOLDER = "front"
SETTINGS_KEY = "train.yaml"
TEST_KEY = "test.json"
SEARCH_REPORT_KEY = "report.html"
# Keys of the train config that say where and how a command runs, not what is trained.
_NOT_KEPT = ("output", "preset", "dry_run", "resume_from", "resume_at", "storage", "ray")


def finish_search(
    job: SearchJob,
    record: RunRecord,
    plan: SearchPlan,
    trials: Sequence[TrialRecord],
    repeats: Sequence[RepeatedTrial] = (),
) -> str:
    """Writes all results, in an order that a killed driver can repeat; returns the text that the user reads last.

    Args:
        job: the search.
        record: its record.
        plan: what the trials knew.
        trials: all trials.
        repeats: trials that were repeated with other seeds, the winner first; without, the best objective wins.

    Raises:
        RunError: no trial finished.
    """
    from faceattr.reports.search import render_search_report  # noqa: PLC0415 - late: it draws

    output = job.output
    output.put(TRIALS_KEY, encode_table(tabulate(trials, job.space, job.attributes.names)))
    best = repeats[0].trial if repeats else best_trial(trials)
    if best is None or best.judgement is None:
        errors = sorted({trial.error for trial in trials if trial.error})
        raise RunError(f"no trial finished; {TRIALS_KEY} has their errors, such as: {errors[:1]}")
    config = describe_best(job, best)
    output.put(BEST_CONFIG_KEY, config.encode())
    keep_models(job, best, trials)
    test = evaluate_on_test(job, plan, best)
    page = render_search_report(
        record,
        job.space,
        trials,
        best,
        notes=plan.caches.notes,
        test=test,
        best_config=config,
        num_val=plan.inputs.surveys["val"].stretches.total_rows,
        repeats=repeats,
        kept_front=job.config.objective.two,
    )
    output.put(SEARCH_REPORT_KEY, page.encode())
    return _summarise(job, best, trials, test, repeats)


def describe_best(job: SearchJob, best: TrialRecord) -> str:
    """Formats the winner's train config as YAML for `pipelines/train.py --config`, which also needs an --output.

    Thresholds are part of the winner, so the training that it describes chooses them by the same criterion.
    """
    config = replace(override(job.base, best.values), thresholds=job.config.objective.thresholds)
    kept = yaml.safe_load(dump_config(config))
    for name in _NOT_KEPT:
        kept.pop(name, None)
    return f"# trial {best.name}; rerun: pipelines/train.py --config best.yaml --output ...\n" + yaml.safe_dump(
        kept, sort_keys=False, allow_unicode=True
    )


def keep_models(job: SearchJob, best: TrialRecord, trials: Sequence[TrialRecord]) -> None:
    """Copies the winner's model to `best/` and, with two objectives, the models of the front to `front/`.

    Then removes the models in the folders of the trials, except of those that may win by repeats later.

    Raises:
        RunError: a model is missing.
    """
    output = job.output
    front = {f"{FRONT_FOLDER}/{trial.name}": trial for trial in find_front(trials)} if job.config.objective.two else {}
    for folder, trial in {BEST_FOLDER: best, **front}.items():
        _keep_model(output, folder, trial)
    for folder, trial in front.items():
        output.put(f"{folder}/{SETTINGS_KEY}", describe_best(job, trial).encode())
    for key in [entry.key for entry in output.list(f"{FRONT_FOLDER}/")]:
        if key.rpartition("/")[0] not in front:
            output.delete(key)
    needed = {trial.number for trial in rank_finished(trials)[: job.config.repeat.top]}
    for trial in trials:
        if trial.number not in needed:
            for name in MODEL_FILES:
                output.delete(f"{trial_folder(trial.number)}/{MODEL_FOLDER}/{name}")


def _keep_model(output: Store, folder: str, trial: TrialRecord) -> None:
    own = f"{trial_folder(trial.number)}/{MODEL_FOLDER}"
    # The config last, so that a folder with it is complete.
    for name in sorted(MODEL_FILES, key=lambda each: each == CONFIG_FILE):
        try:
            output.put(f"{folder}/{name}", output.get(f"{own}/{name}"))
        except MissingObjectError as error:
            if _holds(output, folder, trial):
                break
            raise RunError(
                f"the model of the trial {trial.name}, for {folder}, is gone from {join_uri(output.uri, own)}"
            ) from error
    output.put(f"{folder}/trial.json", encode_versioned({"trial": trial.name}))


def _read_object(store: Store, key: str) -> dict[str, Any]:
    return decode_versioned(store.get(key), join_uri(store.uri, key))


def _holds(output: Store, folder: str, trial: TrialRecord) -> bool:
    try:
        return bool(_read_object(output, f"{folder}/trial.json").get("trial") == trial.name)
    except MissingObjectError:
        return False


def evaluate_on_test(job: SearchJob, plan: SearchPlan, best: TrialRecord) -> dict[str, Any] | None:
    """Judges the winner on the test split, once, and stores the figures. None if there is no test split.

    Once per winner: a search that is resumed with more trials may find another.

    Raises:
        RunError: the cluster failed, or an image cannot be read.
    """
    if "test" not in plan.inputs.surveys:
        return None
    try:
        there = _read_object(job.output, TEST_KEY)
        if there.get("trial") == best.name:
            return there
    except MissingObjectError:
        pass
    trials = job.config.trials
    with cluster_errors():
        found: dict[str, Any] = ray.get(
            ray.remote(_judge_on_test).options(num_cpus=trials.cpus, num_gpus=trials.gpus).remote(plan)
        )
    found = {"trial": best.name, **found}
    job.output.put(TEST_KEY, encode_versioned(found, indent=1))
    return found


def _judge_on_test(plan: SearchPlan) -> dict[str, Any]:
    """Runs the winner over the test images, in a task on the cluster."""
    inputs = plan.inputs
    model = MultiAttributeModel.from_pretrained(join_uri(plan.output_uri, BEST_FOLDER), storage=inputs.storage)
    device = given_device(plan.trials.gpus > 0)
    forward = Forward(model.backbone.preprocessing, precision=plan.base.optim.precision, device=device)
    tested = replace(
        inputs,
        data=replace(inputs.data, splits={**inputs.data.splits, "val": inputs.data.splits["test"]}),
        surveys={**inputs.surveys, "val": inputs.surveys["test"]},
    )
    feed = Feed(
        FeedPlan(inputs=tested, config=plan.base, preprocessing=model.backbone.preprocessing),
        rank=0,
        world_size=1,
        max_decoders=count_decoders(plan.base, 1, plan.trials.cpus),
        num_feeds=1,
        pin=False,
        crops_only=False,
    )
    outputs, targets = [], []
    model.to(device).eval()
    with torch.no_grad():
        for batch in feed.val_batches():
            given = forward(model, batch.inputs.to(device))
            outputs.append({name: each.float().cpu() for name, each in given.items()})
            targets.append(batch.targets)
    feed.close()
    return compute_final_figures(plan.judge, outputs, targets, model.thresholds)


def _summarise(
    job: SearchJob,
    best: TrialRecord,
    trials: Sequence[TrialRecord],
    test: dict[str, Any] | None,
    repeats: Sequence[RepeatedTrial],
) -> str:
    judgement = best.judgement
    assert judgement is not None
    counts = ", ".join(
        f"{sum(trial.status == status for trial in trials)} {status}" for status in ("finished", "stopped", "failed")
    )
    settings = "\n".join(f"  {key} = {value}" for key, value in best.values.items())
    error = judgement.standard_error
    shown_error = "" if math.isnan(error) else f", standard error {error:.4f}"
    lines = [f"{len(trials)} trials: {counts}", f"best {best.name}, objective {judgement.objective:.4f}{shown_error}"]
    if repeats:
        lines += [f"  {each}" for each in repeats]
    elif not math.isnan(error):
        lines.append(f"  {describe_ties(best, trials)}")
    lines.append(settings)
    if test is not None:
        shown = ", ".join(f"{name} {value:.4f}" for name, value in test["by_attribute"].items() if value is not None)
        lines.append(f"on test, once: {shown}")
    uri = job.output.uri
    lines += [
        f"trials  {join_uri(uri, TRIALS_KEY)}",
        f"best    {join_uri(uri, BEST_CONFIG_KEY)}, model {join_uri(uri, BEST_FOLDER)}",
        *(
            [f"front   {join_uri(uri, FRONT_FOLDER)}, a model and its settings for each"]
            if job.config.objective.two
            else []
        ),
        f"report  {join_uri(uri, SEARCH_REPORT_KEY)}",
    ]
    return "\n".join(lines)
