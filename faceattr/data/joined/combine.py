"""One label from several runs: what is computed of the rows of all of them.

p_kc is the probability that run k gives to class c of an attribute; a run's binary scores are moved to the scale on
which its own threshold is 0.5 (`faceattr.data.sources.recentring`), so that every run says yes from 0.5 on.

    mean      score_c = mean_k p_kc: the runs as a mixture with equal weights; label: the likeliest class, for a binary
              attribute yes from 0.5 on; null only where every run left the image unlabelled
    vote      score_c = share of the runs' labels that are c; label: the class with most votes; null for a tie
    agreed    score as `mean`; label: the one that all runs gave; null where they differ or one gave none

    agreement by `compute_agreement` of p_kc; null where a run has no score
    mass      mean over the runs that have one, times the agreement if asked for

Scores and labels fit each other: where there is a label, it is the likeliest class by the score. A row that any run
rejected is rejected, with the first such run's reason. Everything else of a row (address, size, carried columns) is the
first run's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute, AttributeSet
from faceattr.data.joined.agreement import compute_agreement
from faceattr.data.joined.columns import class_scores, labels_or_unknown
from faceattr.data.label_columns import derive_labels
from faceattr.data.runs.commit import OK
from faceattr.data.sources.recentring import Recentring
from faceattr.data.table_checks import fit_schema

CombineMethod = Literal["mean", "vote", "agreed"]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """How rows of several runs become one row.

    Attributes:
        attributes: what is combined, and the rules over it.
        methods: attribute -> method.
        recentrings: for each run, attribute -> how its scores are moved, where its threshold is not 0.5.
        weighs_agreement: whether the mass is multiplied by the agreement.
    """

    attributes: AttributeSet
    methods: Mapping[str, CombineMethod]
    recentrings: tuple[Mapping[str, Recentring], ...]
    weighs_agreement: bool

    def combine(self, tables: Sequence[pa.Table], schema: pa.Schema, where: str) -> pa.Table:
        """Returns the combined rows in the run's schema.

        Args:
            tables: rows of each run; row i of all of them is the same image.
            schema: schema of the combined run.
            where: name of the result, for errors.

        Raises:
            RunError: a value does not fit its column.
        """
        columns = {name: tables[0][name] for name in schema.names if name in tables[0].column_names}
        columns |= dict(zip(("status", "error"), _first_reject(tables), strict=True))
        good = np.asarray(pc.equal(columns["status"], OK))
        for attribute in self.attributes.attributes:
            columns |= self._combine_attribute(attribute, tables, good)
        for rule in self.attributes.derived:
            columns[rule.name] = derive_labels(rule, columns)
        return fit_schema(pa.table({name: columns[name] for name in schema.names}), schema, where)

    def _combine_attribute(
        self, attribute: Attribute, tables: Sequence[pa.Table], good: np.ndarray
    ) -> dict[str, pa.Array]:
        name, num_classes = attribute.name, len(attribute.classes)
        labels = np.stack([labels_or_unknown(table[name]) for table in tables], 1)  # [n, runs]
        probabilities = np.stack(
            [
                _probabilities(table, attribute, recentrings.get(name))
                for table, recentrings in zip(tables, self.recentrings, strict=True)
            ],
            1,
        )  # [n, runs, classes], NaN without a score
        method = self.methods[name]
        votes = (labels[..., None] == np.arange(num_classes)).sum(1)  # [n, classes]
        score = (_mean(votes[:, None], votes.sum(1)) if method == "vote" else _mean_known(probabilities)).astype(
            np.float32
        )
        label = score[:, 1] >= DEFAULT_THRESHOLD if attribute.is_yes_no else np.nan_to_num(score, nan=-1).argmax(1)
        label = np.where(np.isnan(score[:, 0]) | _is_undecided(method, labels, votes), -1, label)
        agreement = np.where(np.isnan(probabilities).any((1, 2)), np.nan, compute_agreement(probabilities))
        mass = _mean_known(np.stack([_masses(table, name) for table in tables], 1)[..., None])[:, 0]
        if self.weighs_agreement:
            mass = mass * np.where(np.isnan(agreement), 1.0, agreement)
        return {
            name: pa.array(label.astype(np.int64), mask=~good | (label < 0)),
            f"{name}_score": _score_column(attribute, score, good),
            f"{name}_mass": pa.array(mass, mask=~good | np.isnan(mass)),
            f"{name}_agreement": pa.array(agreement, mask=~good | np.isnan(agreement)),
        }


def _probabilities(table: pa.Table, attribute: Attribute, recentring: Recentring | None) -> np.ndarray:
    column = table[f"{attribute.name}_score"]
    if recentring is not None:
        column = pa.chunked_array([recentring.apply(column, table[attribute.name])])
    return class_scores(column, attribute)


def _masses(table: pa.Table, name: str) -> np.ndarray:
    column = f"{name}_mass"
    if column not in table.column_names:
        return np.full(len(table), np.nan)
    return np.asarray(table[column].cast(pa.float64()).to_numpy())


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Returns the mean over runs, [n, classes], of values [n, runs, classes] without NaN; NaN if all are."""
    known = ~np.isnan(values[..., 0])
    return _mean(np.where(known[..., None], values, 0.0), known.sum(1))


def _mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns sums over axis 1, [n, classes], divided by counts [n]; NaN for a count of 0."""
    sums = values.sum(1).astype(np.float64)
    return np.divide(sums, counts[:, None], out=np.full_like(sums, np.nan), where=counts[:, None] > 0)


def _is_undecided(method: CombineMethod, labels: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Returns bool [n] of labels [n, runs], -1 for unknown, and the votes for each class, [n, classes]."""
    match method:
        case "mean":
            return np.asarray((labels < 0).all(1))
        case "vote":
            return np.asarray((votes == votes.max(1, keepdims=True)).sum(1) > 1)
        case "agreed":
            return np.asarray((labels != labels[:, :1]).any(1) | (labels[:, 0] < 0))


def _score_column(attribute: Attribute, score: np.ndarray, good: np.ndarray) -> pa.Array:
    null = ~good | np.isnan(score[:, 0])
    if attribute.is_yes_no:
        return pa.array(score[:, 1], mask=null)
    offsets = np.arange(0, score.size + 1, score.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.nan_to_num(score).ravel(), mask=pa.array(null))


def _first_reject(tables: Sequence[pa.Table]) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Returns status and error by the first run that rejected the image."""
    status, error = tables[0]["status"], tables[0]["error"]
    for table in tables[1:]:
        later = pc.and_(pc.equal(status, OK), pc.not_equal(table["status"], OK))
        status, error = (pc.if_else(later, table[name], ours) for name, ours in (("status", status), ("error", error)))
    return status, error
