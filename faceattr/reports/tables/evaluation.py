"""The files of an evaluation.

metrics.parquet            split, attribute, group, name, value, low, high, count
scores.parquet             every scored row: labels, outputs `output_*`, predictions `predicted_*`, calibrated scores
performance_report.txt  report.html  MODEL_CARD.md
confusion_matrices.png  precision_recall.png  reliability.png  sample_grid.png (only when asked for)
differences.parquet        comparison with a second model
test_labels.txt  submission.csv
model/                     the model with the thresholds and calibration of this evaluation
verification.json          figures of the pairs of --pairs
evaluation.json            written last: config, fingerprint, fitted settings, every figure
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import matplotlib.figure
import numpy as np
import pyarrow as pa

from faceattr.attributes import AttributeSet
from faceattr.data.formats.json_files import encode_versioned
from faceattr.data.formats.parquet import encode_table
from faceattr.data.stores.store import Store
from faceattr.evaluation.decisions import decide_kept
from faceattr.evaluation.evaluate import Difference, Evaluation, Fitted, score_table
from faceattr.evaluation.judged import read_outputs
from faceattr.reports.plots.evaluation import draw_confusions, draw_curves, draw_reliability
from faceattr.reports.plots.pictures import encode_picture
from faceattr.reports.tables.metrics import build_metrics

DONE_KEY = "evaluation.json"
OWN_KEYS = frozenset(
    [
        "metrics.parquet",
        "scores.parquet",
        "differences.parquet",
        "performance_report.txt",
        "report.html",
        "MODEL_CARD.md",
        "confusion_matrices.png",
        "precision_recall.png",
        "reliability.png",
        "sample_grid.png",
        "test_labels.txt",
        "submission.csv",
        "verification.json",
        "model/model.safetensors",
        "model/config.json",
    ]
)


def predict_rows(table: pa.Table, attributes: AttributeSet, fitted: Fitted) -> tuple[pa.Table, dict[str, np.ndarray]]:
    """Adds `predicted_<name>` and `predicted_<name>_score` to the scored table; returns it and the predictions."""
    labels: dict[str, np.ndarray] = {}
    for each in attributes.attributes:
        scores = score_table(table, each, fitted)
        labels[each.name] = decide_kept(each, read_outputs(table, each), scores, fitted.thresholds)
        table = table.append_column(f"predicted_{each.name}", pa.array(labels[each.name]))
        if not each.has_score:
            continue
        column = pa.array(scores.astype(np.float32).tolist(), pa.list_(pa.float32())) if scores.ndim == 2 else scores
        table = table.append_column(f"predicted_{each.name}_score", pa.array(column))
    return table, labels


def draw_pictures(evaluation: Evaluation) -> dict[str, matplotlib.figure.Figure]:
    """Returns file key -> plot."""
    judged = [each for each in evaluation.judged.values() if len(each)]
    named = [each for each in judged if each.attribute.has_class_scores]
    pictures = {"confusion_matrices.png": draw_confusions(judged)}
    if named:
        before = [evaluation.uncalibrated[each.attribute.name] for each in named]
        pictures["precision_recall.png"] = draw_curves(named, evaluation.fitted.thresholds)
        pictures["reliability.png"] = draw_reliability(before, named)
    return pictures


def write_tables(store: Store, evaluation: Evaluation, scored: pa.Table, differences: Sequence[Difference]) -> None:
    """Writes the Parquet files."""
    store.put("metrics.parquet", encode_table(build_metrics(evaluation)))
    store.put("scores.parquet", encode_table(scored))
    if differences:
        rows = [
            {
                "attribute": each.attribute,
                "name": each.name,
                "first": each.first,
                "second": each.second,
                "difference": each.second - each.first,
                "low": each.interval.low,
                "high": each.interval.high,
            }
            for each in differences
        ]
        store.put("differences.parquet", encode_table(pa.Table.from_pylist(rows)))


def write_pictures(store: Store, pictures: Mapping[str, matplotlib.figure.Figure]) -> None:
    """Writes the PNG files."""
    for key, figure in pictures.items():
        store.put(key, encode_picture(figure, "png", dots_per_inch=150))


def write_summary(
    store: Store, evaluation: Evaluation, *, config: Mapping[str, Any], fingerprint: Mapping[str, Any]
) -> None:
    """Writes evaluation.json, the last file: it marks the evaluation as complete."""
    rows = [
        {key: row[key] for key in ("attribute", "group", "name", "value", "low", "high", "count")}
        for row in build_metrics(evaluation).to_pylist()
    ]
    summary = {
        "config": dict(config),
        "fingerprint": dict(fingerprint),
        "split": evaluation.split,
        "thresholds": dict(evaluation.fitted.thresholds),
        "calibration": {name: dict(each) for name, each in evaluation.fitted.calibration.items()},
        "calibration_trials": {
            name: {**asdict(each), "kept": each.kept} for name, each in evaluation.fitted.trials.items()
        },
        "notes": list(evaluation.fitted.notes),
        "resampling": {
            name: {"by": each.resampling.by, **asdict(each.resampling)} for name, each in evaluation.judged.items()
        },
        "figures": rows,
    }
    store.put(DONE_KEY, encode_versioned(summary, indent=1))
