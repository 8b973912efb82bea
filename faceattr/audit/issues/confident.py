"""Confident learning: which of the given labels are probably wrong, from out-of-fold probabilities.

C. G. Northcutt, L. Jiang and I. L. Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 2021
(arXiv 1911.00068), section 3 and equations 1 to 3:

    threshold_j    mean of p_j over the rows labelled j: how sure the model usually is of its class j
    joint_ij       rows labelled i for which j is the likeliest class among those with p_j >= threshold_j

Rows off the diagonal are issues. Every row with a label also has a normalised margin, by which issues are ranked:

    margin = p_given - largest p of another class,  from -1 (surely wrong) to 1
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
_Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class JudgedLabels:
    """What the probabilities say of n given labels.

    Attributes:
        suggested: int64 [n], the likeliest class among those that the row exceeds the threshold of, else the likeliest.
        confidence: float32 [n], probability of the given label.
        margin: float32 [n], normalised margin of the given label.
        is_issue: bool [n], whether the row is off the diagonal of the confident joint.
        joint: float64 [C, C], estimated share of all rows with given label i and true label j; sums to 1.
    """

    suggested: _Integers
    confidence: _Floats
    margin: _Floats
    is_issue: npt.NDArray[np.bool_]
    joint: npt.NDArray[np.float64]

    @property
    def expected_issues(self) -> float:
        """Estimated number of wrong labels."""
        return float(len(self.margin) * (1 - np.trace(self.joint)))


def judge_labels(labels: _Integers, probabilities: _Floats) -> JudgedLabels:
    """Compares given labels with out-of-fold probabilities.

    Args:
        labels: int64 [n], class indices; n > 0.
        probabilities: float32 [n, C], of heads that have not learnt from the row.
    """
    rows, num_classes = np.arange(len(labels)), probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    thresholds = np.full(num_classes, np.inf)  # a class that nobody was given is never suggested
    for each in np.flatnonzero(counts):
        thresholds[each] = probabilities[labels == each, each].mean(dtype=np.float64)
    eligible = np.where(probabilities >= thresholds, probabilities, -1.0)
    counted = eligible.max(1) >= 0
    suggested = np.where(counted, eligible.argmax(1), probabilities.argmax(1))
    confidence = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    joint = np.zeros((num_classes, num_classes))
    np.add.at(joint, (labels[counted], suggested[counted]), 1)
    return JudgedLabels(
        suggested=suggested,
        confidence=confidence,
        margin=confidence - others.max(1),
        is_issue=counted & (suggested != labels),
        joint=_calibrate(joint, counts),
    )


def _calibrate(joint: npt.NDArray[np.float64], counts: _Integers) -> npt.NDArray[np.float64]:
    """Scales the rows of the counts to the numbers of given labels, and all to a sum of 1 (equation 3)."""
    sums = joint.sum(1, keepdims=True)
    # A class of which no row was counted is taken as right.
    shares = np.where(sums > 0, joint / np.where(sums > 0, sums, 1), np.eye(len(joint)))
    calibrated: npt.NDArray[np.float64] = shares * counts[:, None]
    return calibrated / calibrated.sum()
