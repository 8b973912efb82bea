"""The actors with a trained model: rows with pixels in; predictions, or the model's raw outputs, out."""

import time
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.data.label_columns import output_columns
from faceattr.data.runs.commit import OK
from faceattr.data.table_checks import fit_schema
from faceattr.evaluation.decisions import decide_labels
from faceattr.jobs.cluster.actor_metrics import ActorMetrics
from faceattr.jobs.cluster.pixel_column import pixels_from_arrow
from faceattr.jobs.cluster.recipe import ActorRecipe


class PredictActor:
    """Scores blocks of images. One actor per GPU, or per fraction of one.

    Args:
        build_predictor: builds the `faceattr.inference.predictor.Predictor` in this process.
        schema: schema of the prediction rows.
    """

    def __init__(self, build_predictor: ActorRecipe, schema: pa.Schema) -> None:
        self._predictor: Any = build_predictor()
        self._schema = schema
        self._metrics = ActorMetrics()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Returns prediction rows in the run's schema, one for each row given."""
        with self._metrics.busy():
            status, good, pixels = _good_pixels(rows, self._predictor.size_px)
            started = time.perf_counter()
            scores = self._predictor.score(pixels)
            self._metrics.count(status, len(good), time.perf_counter() - started)
            attributes = self._predictor.model.attributes
            values = decide_labels(attributes, scores, self._predictor.model.thresholds)
            for each in attributes.attributes:
                if each.has_score:
                    score = scores[each.name]
                    values[f"{each.name}_score"] = score.max(1) if each.is_person else score
            columns = {name: rows[name] for name in self._schema.names if name in rows.column_names}
            for field in self._schema:
                if field.name not in columns:
                    columns[field.name] = _to_column(values.get(field.name), good, len(rows), field.type)
            return fit_schema(
                pa.table({name: columns[name] for name in self._schema.names}), self._schema, "PredictActor"
            )


class OutputActor:
    """Adds the model's raw outputs, before calibration, to the columns of the rows; used by the evaluation.

    Args:
        build_predictor: builds the predictor in this process.
    """

    def __init__(self, build_predictor: ActorRecipe) -> None:
        self._predictor: Any = build_predictor()
        self._metrics = ActorMetrics()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Returns the rows with outputs; rows with a status other than ok have null outputs."""
        with self._metrics.busy():
            status, good, pixels = _good_pixels(rows, self._predictor.size_px)
            started = time.perf_counter()
            values = self._predictor.kept_outputs(pixels)
            self._metrics.count(status, len(good), time.perf_counter() - started)
            table = rows.drop_columns(["pixels"])
            for attribute in self._predictor.model.attributes.attributes:
                for field in output_columns(attribute):
                    table = table.append_column(field, _to_column(values[field.name], good, len(rows), field.type))
            return table


def _good_pixels(rows: pa.Table, size_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the statuses [n], the places of the ok rows [m], and their pixels uint8 [m, S, S, 3]."""
    status = np.array(rows["status"].to_pylist(), object)
    good = np.flatnonzero(status == OK)
    pixels = pixels_from_arrow(rows["pixels"], size_px)
    return status, good, pixels if len(good) == len(rows) else pixels[good]


def _to_column(values: np.ndarray | None, good: np.ndarray, num_rows: int, kind: pa.DataType) -> pa.Array:
    """Builds a column of num_rows with values [m] or [m, C] at the places `good`; null elsewhere and without values."""
    if values is None:
        return pa.nulls(num_rows, kind)
    if values.ndim == 2:
        lists: list[Any] = [None] * num_rows
        for place, row in zip(good.tolist(), values.tolist(), strict=True):
            lists[place] = row
        return pa.array(lists, kind)
    full = np.zeros(num_rows, values.dtype)
    full[good] = values
    null = np.ones(num_rows, bool)
    null[good] = False
    return pa.array(full, mask=null).cast(kind)
