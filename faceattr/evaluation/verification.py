"""Verification: whether two images show the same person, judged on given pairs by the cosine of their embeddings.

TAR at FAR f   largest share of pairs of the same person that a threshold accepts which accepts at most the share f
               of pairs of different persons
EER            error rate at the threshold where both kinds of error are equally frequent
accuracy       of up to ten folds, each with the threshold that is best for the others, as in LFW (Huang et al. 2007)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedKFold

from faceattr.errors import ConfigError

FALSE_ACCEPT_RATES = (0.1, 0.01, 0.001, 0.0001)
_MOST_FOLDS = 10

_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class PairFigures:
    """Figures of the judged pairs.

    Attributes:
        num_same: number of pairs of the same person.
        num_different: number of pairs of different persons.
        tar: FAR -> TAR; None where there are too few pairs of different persons for one to be wrongly accepted.
        auc: area under the ROC curve.
        eer: equal error rate.
        accuracy: mean over the folds.
        accuracy_error: standard error of that mean.
        num_folds: number of folds.
    """

    num_same: int
    num_different: int
    tar: Mapping[float, float | None]
    auc: float
    eer: float
    accuracy: float
    accuracy_error: float
    num_folds: int


def judge_pairs(similarities: _Floats, same: _Flags, folds: npt.NDArray[np.int64] | None = None) -> PairFigures:
    """Computes the figures of pairs.

    Args:
        similarities: [n], larger for pairs that look alike.
        same: [n], whether a pair shows the same person.
        folds: [n], fold of each pair; by default up to ten folds of consecutive pairs of each kind.

    Raises:
        ConfigError: there are less than two pairs of a kind, or only one fold, or a fold holds all pairs of a kind.
    """
    num_same, num_different = int(same.sum()), int((~same).sum())
    if min(num_same, num_different) < 2:
        raise ConfigError(
            "--pairs: expected two pairs or more of the same person and two of different ones among the judged images, "
            f"found {num_same} and {num_different}"
        )
    false_accepts, true_accepts, _ = roc_curve(same, similarities, drop_intermediate=False)
    tar = {
        rate: float(true_accepts[false_accepts <= rate].max()) if num_different * rate >= 1 else None
        for rate in FALSE_ACCEPT_RATES
    }
    crossing = int(np.argmin(np.abs(false_accepts - (1 - true_accepts))))
    shares = _judge_folds(similarities, same, _cut_folds(same) if folds is None else folds)
    return PairFigures(
        num_same=num_same,
        num_different=num_different,
        tar=tar,
        auc=float(roc_auc_score(same, similarities)),
        eer=float((false_accepts[crossing] + 1 - true_accepts[crossing]) / 2),
        accuracy=float(shares.mean()),
        accuracy_error=float(shares.std(ddof=1) / np.sqrt(len(shares))),
        num_folds=len(shares),
    )


def _cut_folds(same: _Flags) -> npt.NDArray[np.int64]:
    count = min(_MOST_FOLDS, int(same.sum()), int((~same).sum()))
    folds = np.empty(len(same), np.int64)
    for number, (_, places) in enumerate(StratifiedKFold(count).split(same, same)):
        folds[places] = number
    return folds


def _judge_folds(similarities: _Floats, same: _Flags, folds: npt.NDArray[np.int64]) -> _Floats:
    """Returns the accuracy of each fold, float64 [folds]."""
    names = np.unique(folds)
    others = [folds != name for name in names]
    if len(names) < 2 or any(len(np.unique(same[rest])) < 2 for rest in others):
        raise ConfigError("--pairs: expected two folds or more, and in all but each of them pairs of both kinds")
    found = []
    for rest in others:
        false_accepts, true_accepts, thresholds = roc_curve(same[rest], similarities[rest], drop_intermediate=False)
        right = true_accepts * same[rest].sum() + (1 - false_accepts) * (~same[rest]).sum()
        accepted = similarities[~rest] >= thresholds[int(np.argmax(right))]
        found.append(float((accepted == same[~rest]).mean()))
    return np.array(found)
