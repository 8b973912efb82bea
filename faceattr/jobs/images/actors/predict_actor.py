"""The actors with a trained model: rows with pixels in; predictions, or the model's raw outputs, out."""

from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.data.label_columns import output_columns
from faceattr.data.table_checks import fit_schema
from faceattr.evaluation.decisions import decide_labels
from faceattr.jobs.cluster.recipe import ActorRecipe
from faceattr.jobs.images.actors.model_thread import ModelThread

_EMBEDDING = "embedding"


class PredictActor:
    """Scores blocks of images. One actor per GPU, or per fraction of one.

    Args:
        build_predictor: builds the `faceattr.inference.predictor.Predictor` in this process.
        schema: schema of the prediction rows.
    """

    def __init__(self, build_predictor: ActorRecipe, schema: pa.Schema) -> None:
        self._thread: ModelThread[Any] = ModelThread(build_predictor)
        self._schema = schema

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Returns prediction rows in the run's schema, one for each row given. Calls at the same time are fine."""
        predictor = self._thread.model
        good, scores = self._thread.score(rows, predictor.size_px, predictor.score)
        attributes = predictor.model.attributes
        values = decide_labels(attributes, scores, predictor.model.thresholds)
        for each in attributes.attributes:
            if each.has_score:
                score = scores[each.name]
                values[f"{each.name}_score"] = score.max(1) if each.is_person else score
        columns = {name: rows[name] for name in self._schema.names if name in rows.column_names}
        for field in self._schema:
            if field.name not in columns:
                columns[field.name] = _to_column(values.get(field.name), good, len(rows), field.type)
        return fit_schema(pa.table({name: columns[name] for name in self._schema.names}), self._schema, "PredictActor")


class OutputActor:
    """Adds the model's raw outputs, before calibration, to the columns of the rows; used by the evaluation.

    Args:
        build_predictor: builds the predictor in this process.
        embed: whether to add `embedding` too.
    """

    def __init__(self, build_predictor: ActorRecipe, embed: bool = False) -> None:
        self._thread: ModelThread[Any] = ModelThread(build_predictor)
        self._embed = embed

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Returns the rows with outputs; rows with a status other than ok have null outputs."""
        predictor = self._thread.model
        good, values = self._thread.score(rows, predictor.size_px, self._compute)
        table = rows.drop_columns(["pixels"])
        for attribute in predictor.model.attributes.attributes:
            for field in output_columns(attribute):
                table = table.append_column(field, _to_column(values[field.name], good, len(rows), field.type))
        if self._embed:
            kind = pa.list_(pa.float32())
            table = table.append_column(_EMBEDDING, _to_column(values[_EMBEDDING], good, len(rows), kind))
        return table

    def _compute(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        predictor = self._thread.model
        kept: dict[str, np.ndarray] = predictor.kept_outputs(pixels)
        return {**kept, _EMBEDDING: predictor.embed(pixels)} if self._embed else kept


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
