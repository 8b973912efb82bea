"""Evaluates scored rows: fits on validation, judges the test split, once.

validation   calibration of each attribute if it helps, then thresholds on the scores
test         figures with 95 % intervals, by group, and against a second model
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.evaluate import Criterion
from faceattr.errors import RunError
from faceattr.evaluation.calibration.choice import CalibrationTrial, choose_calibration
from faceattr.evaluation.calibration.maps import MIN_ROWS, Method
from faceattr.evaluation.calibration.moved import move_threshold
from faceattr.evaluation.figures import Figure, compute_combined, compute_figures
from faceattr.evaluation.groups import GroupTable, compute_group_tables
from faceattr.evaluation.judged import JudgedRows, check_disjoint, read_judged
from faceattr.evaluation.scores import score_kept
from faceattr.evaluation.thresholds import choose_threshold
from faceattr.evaluation.uncertainty.bootstrap import compute_combined_draws, compute_difference_draws, compute_draws
from faceattr.evaluation.uncertainty.figure_intervals import compute_intervals
from faceattr.evaluation.uncertainty.intervals import Interval, percentile_interval

MIN_THRESHOLD_ROWS = 5
"""A threshold is chosen if validation has at least this many rows with each label."""

_NOT_CALIBRATED = (
    f"not calibrated, which takes {MIN_ROWS} labelled rows in validation, two of each of two classes and not all of "
    "one group"
)
_NO_THRESHOLD = f"no threshold chosen, which takes {MIN_THRESHOLD_ROWS} rows of either label in validation"


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What was fitted on validation.

    Attributes:
        calibration: attribute -> calibration settings.
        thresholds: binary attribute -> threshold.
        chosen: attributes whose threshold was chosen here; that of others is the model's own.
        trials: attribute -> cross-fitting result of its calibration, kept or not.
        notes: what could not be fitted, and why.
    """

    calibration: Mapping[str, Mapping[str, Any]]
    thresholds: Mapping[str, float]
    chosen: frozenset[str] = frozenset()
    trials: Mapping[str, CalibrationTrial] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of a model on one split.

    Attributes:
        split: name of the split.
        judged: attribute -> its labelled rows with calibrated scores.
        uncalibrated: the same with uncalibrated scores.
        figures: attribute -> figure -> value and number of rows; `combined` is an entry of its own.
        intervals: attribute -> figure -> 95 % interval.
        groups: tables of figures by group.
        fitted: calibration and thresholds from validation.
    """

    split: str
    judged: Mapping[str, JudgedRows]
    uncalibrated: Mapping[str, JudgedRows]
    figures: Mapping[str, Mapping[str, Figure]]
    intervals: Mapping[str, Mapping[str, Interval]]
    groups: Sequence[GroupTable]
    fitted: Fitted


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Second model minus first on the same rows, for one figure of one attribute."""

    attribute: str
    name: str
    first: float
    second: float
    interval: Interval


def fit_on_validation(
    table: pa.Table,
    attributes: AttributeSet,
    *,
    method: Method,
    criterion: Criterion | None,
    stored: Fitted,
    keep: bool = False,
) -> Fitted:
    """Fits calibration and thresholds on scored validation rows.

    Args:
        table: scored rows of validation only.
        attributes: attributes of the model.
        method: calibration method.
        criterion: criterion of the thresholds; None keeps the stored ones.
        stored: settings that the model already has; a stored threshold stays if none can be chosen, moved with its
            scores if their calibration changes.
        keep: whether to keep the stored calibration of attributes for which none is fitted.
    """
    calibration: dict[str, Mapping[str, Any]] = dict(stored.calibration) if keep else {}
    thresholds: dict[str, float] = dict(stored.thresholds)
    trials, chosen = {}, set()
    notes: dict[str, list[str]] = {}  # text -> attributes
    for attribute in attributes.attributes:
        plain = judge_rows(table, attribute, Fitted(calibration={}, thresholds={}))
        settings, trial = choose_calibration(plain, method)
        if trial is not None:
            trials[attribute.name] = trial
        if settings is not None:
            calibration[attribute.name] = settings
        elif trial is not None:
            notes.setdefault(f"{trial}; scores stay as the model gives them", []).append(attribute.name)
        elif method != "none" and attribute.has_class_scores:
            notes.setdefault(_NOT_CALIBRATED, []).append(attribute.name)
        if not attribute.has_threshold:
            continue
        judged = judge_rows(table, attribute, Fitted(calibration=calibration, thresholds={}))
        has_enough = min(np.bincount(judged.labels, minlength=2)) >= MIN_THRESHOLD_ROWS
        if criterion is not None and has_enough:
            thresholds[attribute.name] = choose_threshold(judged.labels, judged.scores, criterion)
            chosen.add(attribute.name)
            continue
        if criterion is not None:
            notes.setdefault(_NO_THRESHOLD, []).append(attribute.name)
        moved = _keep_threshold(attribute, thresholds, before=stored.calibration, after=calibration)
        if moved is not None:
            notes[moved] = [attribute.name]
    fitted = Fitted(calibration=calibration, thresholds=thresholds, chosen=frozenset(chosen))
    return replace(fitted, trials=trials, notes=tuple(f"{', '.join(names)}: {text}" for text, names in notes.items()))


def _keep_threshold(
    attribute: Attribute,
    thresholds: dict[str, float],
    *,
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
) -> str | None:
    """Moves a stored threshold, if there is one, with its scores. Returns what a reader is told of it, if it moved."""
    name = attribute.name
    if name not in thresholds:
        return None
    kept = thresholds[name]
    thresholds[name] = move_threshold(kept, attribute, before=before.get(name), after=after.get(name))
    if thresholds[name] == kept:
        return None
    return f"the model's own threshold {kept:.4f} is {thresholds[name]:.4f} of the newly calibrated scores"


def judge_rows(table: pa.Table, attribute: Attribute, fitted: Fitted) -> JudgedRows:
    """Returns the labelled rows of one attribute under a calibration and thresholds."""
    return read_judged(table, attribute, scores=score_table(table, attribute, fitted), thresholds=fitted.thresholds)


def score_table(table: pa.Table, attribute: Attribute, fitted: Fitted) -> np.ndarray:
    """Returns all rows' calibrated scores: [N], or [N, C] for classes; years for an age; a person's certainty."""
    return score_kept(table, attribute, fitted.calibration.get(attribute.name))


def evaluate(
    judged_table: pa.Table,
    attributes: AttributeSet,
    fitted: Fitted,
    *,
    split: str,
    fit_table: pa.Table | None,
    groups: Mapping[str, np.ndarray],
    min_group: int,
    resamples: int,
    seed: int,
) -> Evaluation:
    """Evaluates a model on one split.

    Args:
        judged_table: scored rows of the split.
        attributes: attributes of the model.
        fitted: calibration and thresholds.
        split: name of the split.
        fit_table: the rows on which `fitted` was fitted, if any.
        groups: name -> group of each row of `judged_table`.
        min_group: minimum number of rows for a group to count in gaps.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Raises:
        RunError: a judged row was used to fit a threshold or calibration; or no row has a label of the model.
    """
    if fit_table is not None:
        check_disjoint(judged_table, fit_table, judged_name=split, others_name="validation")
    plain = replace(fitted, calibration={})
    judged: dict[str, JudgedRows] = {}
    uncalibrated, figures, intervals, tables = {}, {}, {}, []
    for attribute in attributes.attributes:
        each = judge_rows(judged_table, attribute, fitted)
        found = compute_figures(each)
        if not found:
            continue
        name = attribute.name
        judged[name], figures[name] = each, found
        uncalibrated[name] = judge_rows(judged_table, attribute, plain)
        intervals[name] = compute_intervals(each, compute_draws(each, resamples=resamples, seed=seed))
        # Grouped by its own classes, each group would hold one class alone, and every gap be large.
        others = {by: group for by, group in groups.items() if by != name}
        if others:
            tables += compute_group_tables(each, others, min_rows=min_group, resamples=resamples, seed=seed)
    if not judged:
        raise RunError(f"the split {split!r} has no label of {', '.join(attributes.names)}; it cannot be evaluated")
    person = next((each.name for each in attributes.attributes if each.is_person and each.name in figures), None)
    combined = compute_combined(figures, person)
    if combined is not None and person is not None:
        units = min(judged[each].resampling.num_clusters for each in ("gender", person))
        drawn = compute_combined_draws(judged["gender"], judged[person], resamples=resamples, seed=seed)
        figures["combined"], intervals["combined"] = {"score": combined}, {"score": percentile_interval(drawn, units)}
    return Evaluation(
        split=split,
        judged=judged,
        uncalibrated=uncalibrated,
        figures=figures,
        intervals=intervals,
        groups=tables,
        fitted=fitted,
    )


def compare(first: Evaluation, second: Evaluation, *, resamples: int, seed: int) -> list[Difference]:
    """Returns the differences of all figures for attributes that both models have with the same classes."""
    differences = []
    for name, mine in first.judged.items():
        other = second.judged.get(name)
        if other is None or other.attribute != mine.attribute or not len(mine):
            continue
        draws = compute_difference_draws(mine, other, resamples=resamples, seed=seed)
        differences += [
            Difference(
                attribute=name,
                name=figure,
                first=first.figures[name][figure].value,
                second=second.figures[name][figure].value,
                interval=percentile_interval(values, mine.resampling.num_clusters),
            )
            for figure, values in draws.items()
        ]
    return differences
