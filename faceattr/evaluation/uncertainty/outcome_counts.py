"""Figures as functions of how often each outcome occurs, for many resamples at once.

Rows that contribute equally to every figure are one cell: same label and prediction, and for curves the same rank of
the score. A resample is then a count per cell for K cells (`bootstrap.py`), and a figure of B resamples is arithmetic
on a matrix of counts [B, K]. With the observed counts the figures equal scikit-learn's (`figures.py`), which a test
checks.

With more than MAX_PLACES distinct scores, neighbouring scores share a rank (ties), which moves intervals by less than
their own noise. Reported figures are never computed here.
"""

from abc import ABC, abstractmethod

import numpy as np
from scipy.sparse import csr_array

from faceattr.evaluation.calibration.log_loss import compute_log_losses
from faceattr.evaluation.judged import JudgedRows
from faceattr.training.metrics import WITHIN_YEARS

MAX_PLACES = 512
_LOSS_PLACES = 32
_Draws = dict[str, np.ndarray]


class OutcomeCounts(ABC):
    """The cells of one attribute's rows.

    Attributes:
        place: int64 [n], cell index of each row.
        num_cells: number of cells K; every cell has a row.
    """

    place: np.ndarray
    num_cells: int

    @property
    def counts(self) -> np.ndarray:
        """Number of rows per cell, int64 [K]."""
        return np.bincount(self.place, minlength=self.num_cells)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """Returns the mean over each cell's rows of values [n], float64 [K]."""
        return np.asarray(np.bincount(self.place, weights=values) / self.counts)

    def figures(self, counts: np.ndarray) -> _Draws:
        """Computes figure -> float64 [B] from counts [B, K]; NaN where a resample does not define it."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._figures(counts)

    @abstractmethod
    def _figures(self, counts: np.ndarray) -> _Draws: ...


class BinaryCells(OutcomeCounts):
    """Cells by label, prediction and rank of the score, in decreasing order of the score."""

    def __init__(self, labels: np.ndarray, scores: np.ndarray, predictions: np.ndarray, max_places: int) -> None:
        places = -rank_places(scores, max_places)
        keys, self.place = np.unique(np.stack([places, labels, predictions], 1), axis=0, return_inverse=True)
        self.place = self.place.reshape(-1)
        self.num_cells = len(keys)
        self._yes = keys[:, 1] == 1
        said = keys[:, 2] == 1
        # Rows: true negatives, false positives, false negatives, true positives.
        parts = [~self._yes & ~said, ~self._yes & said, self._yes & ~said, self._yes & said]
        self._parts = np.stack(parts, 1).astype(np.float64)
        self._ends = np.append(np.flatnonzero(np.diff(keys[:, 0])), len(keys) - 1)
        self._losses = self._mean(compute_log_losses(labels, scores))

    def _figures(self, counts: np.ndarray) -> _Draws:
        true_no, false_yes, false_no, true_yes = (counts @ self._parts).T
        recall, recall_no = true_yes / (true_yes + false_no), true_no / (true_no + false_yes)
        return {
            "accuracy": (true_no + true_yes) / counts.sum(1),
            "balanced_accuracy": np.nanmean(np.stack([recall, recall_no]), 0),
            "precision": true_yes / (true_yes + false_yes),
            "recall": recall,
            "f1": 2 * true_yes / (2 * true_yes + false_yes + false_no),
            "log_loss": counts @ self._losses / counts.sum(1),
            **self.curves(counts),
        }

    def curves(self, counts: np.ndarray) -> _Draws:
        """Computes only `ap` and `auc`."""
        yes = np.cumsum(counts * self._yes, axis=1)[:, self._ends].astype(np.float64)
        no = np.cumsum(counts * ~self._yes, axis=1)[:, self._ends].astype(np.float64)
        new_yes, new_no = np.diff(yes, axis=1, prepend=0), np.diff(no, axis=1, prepend=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(yes + no > 0, yes / (yes + no), 0.0)
            defined = (yes[:, -1] > 0) & (no[:, -1] > 0)
            ap = (new_yes * precision).sum(1) / yes[:, -1]
            auc = (new_no * (yes - new_yes / 2)).sum(1) / (yes[:, -1] * no[:, -1])
        return {"ap": np.where(defined, ap, np.nan), "auc": np.where(defined, auc, np.nan)}


class ClassCells(OutcomeCounts):
    """Cells by label and prediction; the curves of a class have cells of their own."""

    def __init__(self, judged: JudgedRows, max_places: int) -> None:
        losses = compute_log_losses(judged.labels, judged.scores)
        # Losses are all distinct: rows with nearly equal losses share a cell.
        columns = [judged.labels, judged.predictions, rank_places(losses, _LOSS_PLACES)]
        keys, self.place = np.unique(np.stack(columns, 1), axis=0, return_inverse=True)
        self.place = self.place.reshape(-1)
        self.num_cells = len(keys)
        self._names = judged.attribute.classes
        num = len(self._names)
        right = keys[:, 0] == keys[:, 1]
        ones = np.ones(len(keys))
        self._labels = _in_columns(keys[:, 0], ones, num)
        self._said = _in_columns(keys[:, 1], ones, num)
        self._right = _in_columns(keys[:, 0], right.astype(np.float64), num)
        self._losses = self._mean(losses)
        self.by_class = {
            name: BinaryCells(
                (judged.labels == index).astype(np.int64),
                judged.scores[:, index],
                (judged.predictions == index).astype(np.int64),
                max_places,
            )
            for index, name in enumerate(self._names)
            if (judged.labels == index).any()
        }

    def _figures(self, counts: np.ndarray) -> _Draws:
        # Without the curves of classes, which have cells of their own.
        labels, said, right = counts @ self._labels, counts @ self._said, counts @ self._right
        total = counts.sum(1)
        precision, recall, f1 = right / said, right / labels, 2 * right / (labels + said)
        draws = {
            "accuracy": right.sum(1) / total,
            "balanced_accuracy": mean_over_classes(recall),
            "macro_precision": mean_over_classes(precision),
            "macro_f1": mean_over_classes(f1),
            "weighted_f1": np.nansum(f1 * labels, axis=1) / total,
            "log_loss": counts @ self._losses / total,
        }
        for index, name in enumerate(self._names):
            of_class = {"precision": precision, "recall": recall, "f1": f1}
            draws |= {f"{key}/{name}": values[:, index] for key, values in of_class.items()}
        return draws


class AgeCells(OutcomeCounts):
    """Cells by the signed error of exact ages, and by whether a range was hit."""

    def __init__(self, judged: JudgedRows, max_places: int) -> None:
        low, high = judged.labels.T
        exact = high - low <= 1
        error = np.where(exact, judged.predictions - low, 0.0)
        hit = (judged.predictions >= low) & (judged.predictions < high) & ~exact
        within = np.abs(error) <= WITHIN_YEARS
        keys, self.place = np.unique(
            np.stack([exact, hit, exact & within, rank_places(error, max_places)], 1), axis=0, return_inverse=True
        )
        self.place = self.place.reshape(-1)
        self.num_cells = len(keys)
        self._exact = keys[:, 0] == 1
        values = np.stack([exact, error, np.abs(error), error**2, exact & within, ~exact, hit], 1).astype(np.float64)
        self._values = np.stack([self._mean(column) for column in values.T], 1)

    def _figures(self, counts: np.ndarray) -> _Draws:
        exact, signed, absolute, squared, within, ranges, hit = (counts @ self._values).T
        draws: _Draws = {}
        if self._exact.any():
            draws = {
                "mae": absolute / exact,
                "rmse": np.sqrt(squared / exact),
                "bias": signed / exact,
                f"within_{WITHIN_YEARS}": within / exact,
            }
        if not self._exact.all():
            draws["range_accuracy"] = hit / ranges
        return draws


class IdentityCells(OutcomeCounts):
    """Cells by person, prediction, and whether the person is among the top five."""

    def __init__(self, judged: JudgedRows) -> None:
        among = (judged.outputs == judged.labels[:, None]).any(1)
        keys, self.place = np.unique(
            np.stack([judged.labels, judged.predictions, among], 1), axis=0, return_inverse=True
        )
        self.place = self.place.reshape(-1)
        self.num_cells = len(keys)
        self._among = keys[:, 2].astype(np.float64)
        right = (keys[:, 0] == keys[:, 1]).astype(np.float64)
        self._all_right = right
        persons, places = np.unique(keys[:, :2], return_inverse=True)
        places = places.reshape(-1, 2)
        shape, rows = (len(keys), len(persons)), np.arange(len(keys))
        self._named = csr_array((np.ones(2 * len(keys)), (np.tile(rows, 2), places.T.reshape(-1))), shape=shape)
        self._right = csr_array((right, (rows, places[:, 0])), shape=shape)

    def _figures(self, counts: np.ndarray) -> _Draws:
        total = counts.sum(1)
        return {
            "top1": counts @ self._all_right / total,
            "top5": counts @ self._among / total,
            "macro_f1": mean_over_classes(2 * (counts @ self._right) / (counts @ self._named)),
        }


def rank_places(values: np.ndarray, most: int) -> np.ndarray:
    """Returns each value's rank among the distinct ones, int64 [n], rising; at most `most` ranks, of equal counts."""
    distinct, places = np.unique(values, return_inverse=True)
    places = places.reshape(-1)
    if len(distinct) <= most:
        return places
    before = np.cumsum(np.bincount(places)) - 1
    return np.asarray(before[places] * most // len(values))


def _in_columns(columns: np.ndarray, values: np.ndarray, num: int) -> np.ndarray:
    """Returns float64 [K, num] with values[k] in column columns[k]."""
    matrix = np.zeros((len(columns), num))
    matrix[np.arange(len(columns)), columns] = values
    return matrix


def mean_over_classes(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the last axis without NaN; NaN if there is nothing else."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(-1) / known.sum(-1))
