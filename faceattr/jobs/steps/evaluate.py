"""Evaluate a trained model: metrics with intervals, groups, calibration, thresholds, reports.

Reads a model folder and packed runs. Thresholds and calibration are fitted on the split `val`; the split `test` is
evaluated once. Writes `metrics.parquet`, `scores.parquet`, `report.html`, `performance_report.txt`, `MODEL_CARD.md`,
pictures, and `model/`, which is the model with its thresholds and calibration.

    ray job submit --working-dir . -- python pipelines/eval.py --model s3://faces/models/m1 --data s3://faces/packed/run1
        --output s3://faces/eval/m1 --group-by race,gender
    faceattr evaluate --model ./models/m1 --data ./packed --output ./eval --compare ./models/m0
"""

from faceattr.config import EvalConfig
from faceattr.data.runs.lease import drive
from faceattr.jobs.cluster.session import ray_session, stop_on_sigterm
from faceattr.jobs.evaluate import run as evaluate
from faceattr.logs import say


def evaluate_model(config: EvalConfig) -> int:
    """Scores validation and test rows, fits on validation, evaluates test, and writes the reports."""
    job = evaluate.prepare_eval_job(config)
    with drive(job.output):
        with ray_session(config.ray), stop_on_sigterm():
            job = evaluate.settle_precision(job)
            first, second = evaluate.score(job)
        first, verified = evaluate.verify(job, first)
        evaluation, differences = evaluate.judge_splits(job, first, second)
        say(evaluate.summarise_evaluation(job, evaluation, differences, verified))
    return 0
