"""The texts that a training shows before it starts and after its end."""

import json

import ray

from faceattr.attributes import DEFAULT_THRESHOLD
from faceattr.config.overrides import dump_config
from faceattr.data.formats.json_text import encode_json
from faceattr.data.runs.status import PROGRESS_KEY
from faceattr.data.runs.version import RunRecord
from faceattr.data.stores.keys import join_uri
from faceattr.jobs.train.run import TrainJob, check_room, survey_labels
from faceattr.jobs.train.survey import load_surveys
from faceattr.models.saved_config import CONFIG_FILE
from faceattr.training.history import read_history
from faceattr.training.loop.selection import find_best_epoch

TRAINING_REPORT_KEY = "report.html"
_PICTURE_KEY = "training_metrics.png"
_CSV_KEY = "metrics.csv"
_EVENTS_KEY = "tensorboard/events.out.tfevents.0.faceattr"


def describe_plan(job: TrainJob, network: str) -> str:
    """Describes the config, the images, the model (`network` is its text) and the cluster; writes nothing."""
    check_room(job.config)
    surveys = survey_labels(job, write=False)
    cluster = ray.cluster_resources()
    images = ", ".join(f"{split} {each.stretches.total_rows:,}" for split, each in surveys.items())
    steps = surveys["train"].stretches.total_rows // job.config.feed.settled_batch_size
    workers = job.config.workers
    return "\n".join(
        [
            dump_config(job.config),
            f"images     {images}",
            f"attributes {', '.join(f'{each.name} ({each.kind})' for each in job.attributes.attributes)}",
            f"steps      {steps:,} batches of {job.config.feed.settled_batch_size} an epoch",
            f"cluster    {cluster.get('CPU', 0):g} CPUs, {cluster.get('GPU', 0):g} GPUs on {len(ray.nodes())} nodes",
            f"workers    {workers.min_workers or workers.num_workers} to {workers.num_workers}",
            network,
            *job.recipe,
            "Nothing was written.",
        ]
    )


def finish_train_run(job: TrainJob, record: RunRecord) -> str:
    """Writes the report, the tables and the figure of a finished training; returns the text the user reads last."""
    # Late: these draw, which a training needs only at its end.
    from faceattr.reports.plots.pictures import encode_picture  # noqa: PLC0415
    from faceattr.reports.plots.training import draw_training  # noqa: PLC0415
    from faceattr.reports.tables.training import best_record, describe_figures, encode_csv, encode_events  # noqa: PLC0415
    from faceattr.reports.training import render_training_report  # noqa: PLC0415

    history = read_history(job.output)
    surveys = load_surveys(job.output)
    assert surveys is not None
    best_epoch = find_best_epoch(history, job.config.select)
    counts = {split: each.counts for split, each in surveys.items()}
    objective = "combined metric" if job.config.select.combine else job.config.select.metric
    report = render_training_report(record, job.attributes, history, counts, best_epoch=best_epoch, objective=objective)
    for key, data in (
        (_CSV_KEY, encode_csv(history)),
        (_EVENTS_KEY, encode_events(history)),
        (_PICTURE_KEY, encode_picture(draw_training(history, job.attributes, best_epoch, objective), "png")),
        (TRAINING_REPORT_KEY, report.encode()),
    ):
        job.output.put(key, data)
    job.output.delete(PROGRESS_KEY)
    best = best_record(history, best_epoch)
    chosen = f"{_name_objective(job)} {best['objective']:.4f}"
    return "\n".join(
        [
            f"trained {len(history)} epochs; the best is {best_epoch + 1}, with {chosen}",
            describe_figures(best, job.attributes),
            *record.notes.get("recipe", job.recipe),
            *_describe_thresholds(job),
            f"model   {job.output.uri}",
            f"report  {join_uri(job.output.uri, TRAINING_REPORT_KEY)}",
        ]
    )


def _describe_thresholds(job: TrainJob) -> list[str]:
    """Returns a line per binary attribute if thresholds were asked for."""
    criterion = job.config.thresholds.criterion
    if criterion == "keep":
        return []
    chosen = json.loads(job.output.get(CONFIG_FILE))["thresholds"]
    lacking = f"{DEFAULT_THRESHOLD}, since validation has too few labels of a kind to choose one"
    return [
        f"threshold of {each.name}  "
        + (f"{chosen[each.name]:.4f}, best {criterion} on validation" if each.name in chosen else lacking)
        for each in job.attributes.attributes
        if each.has_threshold
    ]


def _name_objective(job: TrainJob) -> str:
    select = job.config.select
    return encode_json(dict(select.combine)) if select.combine else select.metric
