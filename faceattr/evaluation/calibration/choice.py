"""Decides whether a calibration helps, by validation rows that were not used to fit it.

Validation is split into five folds that keep clusters (`clusters.py`) whole. Each fold is scored by a calibration
fitted on the other four. If the log loss over all rows does not fall below that of the uncalibrated scores, the model
stays uncalibrated. So the choice needs no test rows.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedKFold

from faceattr.evaluation.calibration.log_loss import compute_log_losses
from faceattr.evaluation.calibration.maps import FittedMethod, Method, choose_method, fit_settings
from faceattr.evaluation.judged import JudgedRows
from faceattr.evaluation.scores import score_outputs

_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class CalibrationTrial:
    """Result of cross-fitting a calibration on validation.

    Attributes:
        method: method that was tried.
        folds: number of folds.
        by: `group` if folds keep whole clusters together, else `row`.
        log_loss_before: mean over rows, in nats, of the uncalibrated scores.
        log_loss_after: the same of scores calibrated on the other folds.
    """

    method: str
    folds: int
    by: str
    log_loss_before: float
    log_loss_after: float

    @property
    def kept(self) -> bool:
        """Whether the calibration lowered the log loss."""
        return self.log_loss_after < self.log_loss_before

    def __str__(self) -> str:
        gain = self.log_loss_before - self.log_loss_after
        return (
            f"{self.method} {'kept' if self.kept else 'not kept'}: cross-fitted log loss on validation "
            f"{self.log_loss_before:.4f} before, {self.log_loss_after:.4f} after ({gain:+.4f} gained; "
            f"{self.folds} folds by {self.by})"
        )


def choose_calibration(judged: JudgedRows, method: Method) -> tuple[Mapping[str, Any] | None, CalibrationTrial | None]:
    """Returns settings fitted on all rows if calibration helps, else None; and the trial, None if none is possible.

    Args:
        judged: validation rows with the model's outputs and uncalibrated scores.
        method: see `calibration.choose_method`.
    """
    chosen = choose_method(judged, method)
    if chosen is None:
        return None, None
    trial = _cross_fit(judged, chosen)
    if trial is None or not trial.kept:
        return None, trial
    return fit_settings(judged, chosen), trial


def _cross_fit(judged: JudgedRows, method: FittedMethod) -> CalibrationTrial | None:
    clusters = judged.clusters
    units = len(judged) if clusters is None else len(np.unique(clusters))
    if units < 2:
        return None
    # A rare class must not be in one fold alone: at most as many folds as the second most frequent class has rows.
    seldom = int(np.sort(np.bincount(judged.labels))[-2])
    folds = min(_FOLDS, units, seldom)
    split: StratifiedKFold | GroupKFold
    if clusters is None:
        split = StratifiedKFold(folds, shuffle=True, random_state=0)
    else:
        split = GroupKFold(folds, shuffle=True, random_state=0)
    outputs = judged.outputs[:, None] if judged.outputs.ndim == 1 else judged.outputs
    after = np.zeros(len(judged))
    with warnings.catch_warnings():
        # sklearn warns of classes with fewer rows than folds; a fold's training rows may lack such a class.
        warnings.simplefilter("ignore", UserWarning)
        parts = list(split.split(outputs, judged.labels, clusters))
    for others, rows in parts:
        scores = score_outputs(judged.attribute, outputs[rows], fit_settings(judged.take(others), method))
        after[rows] = compute_log_losses(judged.labels[rows], scores)
    before = compute_log_losses(judged.labels, score_outputs(judged.attribute, outputs, None))
    return CalibrationTrial(
        method=method,
        folds=folds,
        by="row" if clusters is None else "group",
        log_loss_before=float(before.mean()),
        log_loss_after=float(after.mean()),
    )
