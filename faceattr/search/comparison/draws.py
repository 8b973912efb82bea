"""The objective of a trial on resampled validation rows, with the same resamples for all trials of a search.

The draws of two trials can be subtracted: the standard deviation of the differences is the standard error of their
difference (paired bootstrap; Efron & Tibshirani 1993). Since trials are wrong about much the same images, it is smaller
than the standard errors of the two objectives suggest.

Decisions stay as they are: the thresholds are not chosen again in a resample. So the draws show how much the choice of
images decides, not how much the seed of the training does; `repeats.py` measures that.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from faceattr.attributes import Attribute
from faceattr.config.evaluate import Criterion
from faceattr.evaluation.decisions import decide
from faceattr.evaluation.figures import build_cells
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.scores import keep_outputs, score_outputs
from faceattr.evaluation.thresholds import criterion_values
from faceattr.evaluation.uncertainty.clusters import number_clusters
from faceattr.training.targets import Targets

# With B draws a standard error is known to about 1 / sqrt(2 B): 5 %.
NUM_RESAMPLES = 200
_NUM_OUTCOMES = 4
# A stream of random numbers that the halves of validation do not use.
_STREAM = 1


@dataclass(frozen=True)
class Resamples:
    """Resamples of n validation rows.

    Attributes:
        times: uint8 [B, n], how often each row is drawn.
    """

    times: np.ndarray

    def count(self, rows: np.ndarray, place: np.ndarray, num_cells: int) -> np.ndarray:
        """Returns float64 [B, num_cells]: how many of the drawn rows are in each cell.

        Args:
            rows: int64 [m], the rows that are counted.
            place: int64 [m], their cells.
            num_cells: number of cells.
        """
        return np.stack([np.bincount(place, weights=each[rows], minlength=num_cells) for each in self.times])


def draw_resamples(
    num_rows: int, clusters: np.ndarray | None, *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Resamples:
    """Draws rows, or clusters of rows that belong together, with replacement. The same arguments give the same draws.

    Args:
        num_rows: number of validation rows n.
        clusters: int64 [n], see `faceattr.evaluation.uncertainty.clusters`; None if rows are independent.
        seed: seed of the search.
        num_resamples: number of draws B.
    """
    numbers = number_clusters(clusters, num_rows)
    num = int(numbers.max(initial=-1)) + 1
    rng = np.random.default_rng((seed, _STREAM))
    times = np.empty((num_resamples, num_rows), np.uint8)
    for each in times:
        # That a row is drawn more than 255 times does not happen: the number is Poisson with mean 1.
        each[:] = np.bincount(rng.integers(0, max(1, num), num), minlength=num)[numbers]
    return Resamples(times)


def draw_binary(
    known: np.ndarray, labels: np.ndarray, said: np.ndarray, criterion: Criterion, resamples: Resamples
) -> np.ndarray:
    """Returns the criterion of a binary attribute in each resample, float64 [B]; NaN where it is undefined.

    Args:
        known: int64 [m], rows with a label.
        labels: [m], 0 or 1.
        said: bool [m], the decisions.
        criterion: the criterion.
        resamples: the resamples.
    """
    counts = resamples.count(known, 2 * labels.astype(np.int64) + said, _NUM_OUTCOMES)
    with np.errstate(invalid="ignore", divide="ignore"):
        return criterion_values(counts, criterion)


def draw_figure(
    attribute: Attribute, figure: str, outputs: Tensor, targets: Targets, resamples: Resamples
) -> np.ndarray:
    """Returns a figure of an attribute without threshold in each resample, float64 [B]; NaN where it is undefined.

    Args:
        attribute: the attribute.
        figure: name of the figure, as in `faceattr.evaluation.figures`.
        outputs: float32 [n, outputs] of all validation rows.
        targets: their labels.
        resamples: the resamples.
    """
    rows = torch.nonzero(targets.known)[:, 0].numpy()
    given = outputs.numpy()[rows]
    scores = score_outputs(attribute, given, None)
    judged = JudgedRows(
        attribute=attribute,
        rows=rows,
        labels=targets.value[targets.known].numpy().astype(np.float64 if attribute.is_years else np.int64),
        outputs=keep_outputs(attribute, given)[f"output_{attribute.name}"],
        scores=scores.astype(np.float64),
        predictions=decide(attribute, scores, {}).astype(np.float64 if attribute.is_years else np.int64),
    )
    cells = build_cells(judged)
    counts = resamples.count(rows, cells.place, cells.num_cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        return cells.figures(counts)[figure]
