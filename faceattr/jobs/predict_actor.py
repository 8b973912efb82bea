"""The actors that hold a trained model: rows with pixels in, predictions or the model's own outputs out."""

import pkgutil
import time
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.commit import OK
from faceattr.data.tables import LabelColumns
from faceattr.evaluation.judged import TOP, output_columns
from faceattr.evaluation.labels import decide_labels
from faceattr.jobs.actor_metrics import ActorMetrics
from faceattr.jobs.pixels import pixels_from_arrow
from faceattr.jobs.vqa_actor import BuildScorer


class Scores(Protocol):
    """What the actors ask of a predictor; see `faceattr.inference.predictor.Predictor`."""

    size_px: int
    model: Any

    def score(self, pixels: np.ndarray) -> dict[str, np.ndarray]: ...

    def outputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]: ...


class PredictActor:
    """Scores blocks of images. One per GPU, or per fraction of one.

    Args:
        build_predictor: makes the predictor in this process.
        schema: of the rows.
    """

    def __init__(self, build_predictor: BuildScorer, schema: pa.Schema) -> None:
        self._predictor: Scores = pkgutil.resolve_name("typing:cast")(Scores, build_predictor())
        self._schema = schema
        self._metrics = ActorMetrics()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Prediction rows in the run's schema, one for each row given."""
        with self._metrics.busy():
            status, good, pixels = _good_pixels(rows, self._predictor.size_px)
            started = time.perf_counter()
            scores = self._predictor.score(pixels)
            self._metrics.count(status, len(good), time.perf_counter() - started)
            attributes: AttributeSet = self._predictor.model.attributes
            labels = decide_labels(attributes, scores, self._predictor.model.thresholds)
            columns = {name: rows[name] for name in self._schema.names if name in rows.column_names}
            spread = LabelColumns(good, len(rows), self._schema)
            for each in attributes.attributes:
                columns |= spread.of(each, labels[each.name], scores[each.name])
            columns |= {rule.name: spread.labels(rule.name, labels[rule.name]) for rule in attributes.derived}
            return pa.table({name: columns[name] for name in self._schema.names}).cast(self._schema)


class OutputActor:
    """The model's own outputs, before calibration, beside the columns that the rows have: for evaluation.

    Args:
        build_predictor: makes the predictor in this process.
    """

    def __init__(self, build_predictor: BuildScorer) -> None:
        self._predictor: Scores = pkgutil.resolve_name("typing:cast")(Scores, build_predictor())
        self._metrics = ActorMetrics()

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Rows with a status other than ok have no outputs."""
        with self._metrics.busy():
            status, good, pixels = _good_pixels(rows, self._predictor.size_px)
            started = time.perf_counter()
            outputs = self._predictor.outputs(pixels)
            years = self._predictor.score(pixels[:0])  # nothing is computed: shapes only
            del years
            self._metrics.count(status, len(good), time.perf_counter() - started)
            table = rows.drop_columns(["pixels"])
            for each in self._predictor.model.attributes.attributes:
                for name, values in _output_values(each, outputs[each.name]).items():
                    table = table.append_column(name, _spread(values, good, len(rows), name, each))
            return table
