"""The actor with the VQA model: rows with pixels in, label rows out."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pyarrow as pa

from faceattr.data.label_columns import derive_labels
from faceattr.data.table_checks import fit_schema
from faceattr.jobs.images.actors.model_thread import ModelThread
from faceattr.vqa.questions import AttributeLabels, QuestionSet


class ImageScorer(Protocol):
    """What the actor needs of a scorer; see `faceattr.vqa.scorer.Scorer`."""

    image_size_px: int

    def score(self, images: np.ndarray) -> np.ndarray:
        """Maps uint8 [n, S, S, 3] to float32 [n, answers of all questions], natural logarithms."""
        ...


class VqaActor:
    """Scores blocks of images. One actor per GPU, or per fraction of one.

    Args:
        build_scorer: builds the scorer in this process.
        questions: how answers become labels.
        schema: schema of the label rows.
    """

    def __init__(self, build_scorer: Callable[[], ImageScorer], questions: QuestionSet, schema: pa.Schema) -> None:
        self._thread = ModelThread(build_scorer)
        self._questions = questions
        self._schema = schema

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Returns label rows in the run's schema, one for each row given. Calls at the same time are fine."""
        scorer = self._thread.model
        good, scores = self._thread.score(rows, scorer.image_size_px, scorer.score)
        labels = self._questions.compute_labels(scores)
        columns = {name: rows[name] for name in self._schema.names if name in rows.column_names}
        for asked in self._questions.asked:
            name = asked.attribute.name
            columns |= _label_columns(name, labels[name], good, len(rows), self._schema)
        for rule in self._questions.derived:
            columns[rule.name] = derive_labels(rule, columns)
        return fit_schema(pa.table({name: columns[name] for name in self._schema.names}), self._schema, "VqaActor")


def _label_columns(
    name: str, labels: AttributeLabels, good: np.ndarray, num_rows: int, schema: pa.Schema
) -> dict[str, pa.Array]:
    """Builds the columns of one attribute over all rows, in the schema's types; rows without scores are null."""
    bad = np.ones(num_rows, bool)
    bad[good] = False
    null_label, null_score = bad.copy(), bad.copy()
    null_label[good] = labels.unknown
    null_score[good] = labels.unanswered

    def spread(values: np.ndarray) -> np.ndarray:
        full = np.zeros((num_rows, *values.shape[1:]), values.dtype)
        full[good] = values
        return full

    def column(suffix: str, values: np.ndarray, null: np.ndarray) -> pa.Array:
        return pa.array(values, schema.field(name + suffix).type, mask=null)

    score = spread(labels.score)
    if score.ndim == 1:
        score_column = column("_score", score, null_score)
    else:
        lists = [None if is_null else row.tolist() for row, is_null in zip(score, null_score, strict=True)]
        score_column = pa.array(lists, schema.field(f"{name}_score").type)
    return {
        name: column("", spread(labels.label), null_label),
        f"{name}_score": score_column,
        f"{name}_mass": pa.nulls(num_rows, schema.field(f"{name}_mass").type)
        if labels.mass is None
        else column("_mass", spread(labels.mass), bad),
    }
