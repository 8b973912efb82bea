"""What an audit says of a table: figures of its labels, and of those that other thresholds would make."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute
from faceattr.audit.choose import CalibrationMap, MapMethod, choose_decision, fit_map
from faceattr.audit.estimates import Estimate, count_labels, curve, estimate_binary, estimate_f1_change
from faceattr.audit.folder import Sample
from faceattr.audit.judgements import ReviewerAnswer
from faceattr.audit.lists.count import ListCounts, count_lists
from faceattr.audit.posterior import JudgedItems
from faceattr.audit.verdicts import AttributeVerdicts, ReviewerAgreement, compare_reviewers, gather_verdicts, settle
from faceattr.config.evaluate import Criterion
from faceattr.data.formats.json_files import encode_versioned
from faceattr.data.runs.run_attributes import Decision
from faceattr.errors import RunError

RESULT_KEY = "result.json"
THRESHOLDS_KEY = "thresholds.yaml"
REPORT_KEY = "report.html"
_CURVE_POINTS = 60


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Precision and recall at each threshold.

    Attributes:
        thresholds: float64 [t], ascending.
        precision: float64 [t, 3]: estimate, lower and upper end of its 95 % interval.
        recall: the same.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


@dataclass(frozen=True, kw_only=True)
class AttributeResult:
    """What the judgements say of one attribute.

    Attributes:
        attribute: its definition.
        num_judged: random draws that people could tell.
        num_unsure: random draws that they could not tell.
        num_left: random draws that nobody has judged yet.
        before: the decision that made the table's labels.
        figures: figure -> estimate for these labels; of a multiclass attribute `accuracy`, `coverage`, and
            `precision/CLASS`, `recall/CLASS`, `prevalence/CLASS`.
        after: the decision that the criterion chooses; None where nothing was chosen.
        figures_after: the same figures for labels that it would make; empty without one.
        calibration: map from scores to probabilities; None if the judgements do not suffice.
        curve: precision and recall by threshold; None without a threshold.
        note: why nothing was chosen; empty if something was.
    """

    attribute: Attribute
    num_judged: int
    num_unsure: int
    num_left: int
    before: Decision
    figures: Mapping[str, Estimate]
    after: Decision | None = None
    figures_after: Mapping[str, Estimate]
    calibration: CalibrationMap | None = None
    curve: Curve | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """The result of `faceattr audit apply`.

    Attributes:
        attributes: in the audit's order.
        agreement: of each pair of reviewers.
        reviewers: reviewer -> number of items.
        lists: of the rows that were listed without a random draw; they are in no other figure.
    """

    attributes: tuple[AttributeResult, ...]
    agreement: tuple[ReviewerAgreement, ...]
    reviewers: Mapping[str, int]
    lists: tuple[ListCounts, ...] = ()

    @property
    def decisions(self) -> dict[str, Decision]:
        """What the criterion chose, by attribute."""
        return {each.attribute.name: each.after for each in self.attributes if each.after is not None}

    def encode(self) -> bytes:
        """Returns the bytes of result.json."""
        attributes = {each.attribute.name: _describe(each) for each in self.attributes}
        value = {
            "attributes": attributes,
            "agreement": [asdict(each) for each in self.agreement],
            "reviewers": dict(self.reviewers),
            **({"lists": [asdict(each) for each in self.lists]} if self.lists else {}),
        }
        return encode_versioned(value, indent=1)


def judge(
    sample: Sample,
    judgements: Sequence[ReviewerAnswer],
    criterion: Criterion | Literal["prevalence"],
    *,
    method: MapMethod = "platt",
    sure: float | None = None,
) -> AuditResult:
    """Estimates the figures of all attributes that were judged, and chooses their thresholds.

    Args:
        sample: the audit.
        judgements: all answers.
        criterion: what a threshold maximises; see `choose_decision`.
        method: of the calibration map.
        sure: see `choose_decision`.

    Raises:
        RunError: no attribute has judgements enough.
    """
    settled = settle(judgements)
    found, problems = [], []
    for audited in sample.audit.attributes:
        if not audited.strata:  # nothing was drawn at random
            continue
        name = audited.attribute.name
        try:
            verdicts = gather_verdicts(sample, name, settled)
        except RunError as error:
            problems.append(str(error))
            continue
        decide = _judge_binary if audited.attribute.is_yes_no else _judge_classes
        found.append(decide(sample, verdicts, criterion, method, sure))
    lists = count_lists(sample, settled)
    if not found and all(each.num_left == each.rows.num_listed for each in lists):
        raise RunError("; ".join(problems))
    items: dict[str, set[int]] = {}
    for each in judgements:
        items.setdefault(each.reviewer, set()).add(each.item)
    return AuditResult(
        attributes=tuple(found),
        agreement=tuple(compare_reviewers(sample, judgements)),
        reviewers={name: len(numbers) for name, numbers in sorted(items.items())},
        lists=lists,
    )


def _judge_binary(
    sample: Sample,
    verdicts: AttributeVerdicts,
    criterion: Criterion | Literal["prevalence"],
    method: MapMethod,
    sure: float | None,
) -> AttributeResult:
    audited, seed = verdicts.audited, sample.audit.seed
    items = verdicts.items(verdicts.answer == 1)
    low, high, num_rows = _scores(sample, audited.attribute.name)
    after, calibration, note = None, None, ""
    try:
        calibration = fit_map(items, method)
        after = choose_decision(calibration, low, high, num_rows, criterion, sure=sure)
        note = _describe_doubt(items, audited.decision, after, criterion, seed)
    except RunError as error:
        note = str(error)

    def figures(decision: Decision) -> dict[str, Estimate]:
        return estimate_binary(items, decision, seed=seed) | count_labels(low, high, num_rows, decision)

    points = low[np.unique(np.linspace(0, len(low) - 1, _CURVE_POINTS).astype(int))]
    bands = curve(items, points, seed=seed)
    return AttributeResult(
        **_count(verdicts),
        figures=figures(audited.decision),
        after=after,
        figures_after={} if after is None else figures(after),
        calibration=calibration,
        curve=Curve(thresholds=points, precision=bands["precision"], recall=bands["recall"]),
        note=note,
    )


def _describe_doubt(
    items: JudgedItems, before: Decision, after: Decision, criterion: Criterion | Literal["prevalence"], seed: int
) -> str:
    """Says so if the judgements do not tell whether the chosen threshold is better; empty if they do."""
    if criterion == "prevalence" or criterion.name != "f1" or after == before:
        return ""
    ends = sorted((before.threshold, after.threshold))
    moves_threshold_alone = before.abstain == after.abstain
    if moves_threshold_alone and not ((items.score >= ends[0]) & (items.score < ends[1])).any():
        return (
            f"no judged item has a score from {ends[0]:.3f} to {ends[1]:.3f}: these judgements do not tell whether "
            f"{after.threshold:.3f} is better than {before.threshold:.3f}; judge more, or keep it"
        )
    change = estimate_f1_change(items, before, after, seed=seed)
    if change.low > 0:
        return ""
    return (
        f"F1 changes by {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]: these judgements do not tell "
        f"whether {after.threshold:.3f} is better than {before.threshold:.3f}; judge more, or keep it"
    )


def _judge_classes(
    sample: Sample,
    verdicts: AttributeVerdicts,
    criterion: Criterion | Literal["prevalence"],
    method: MapMethod,
    sure: float | None,
) -> AttributeResult:
    """Figures of a multiclass attribute; with `sure`, the least probability from which labels are right that often."""
    del criterion  # of a yes/no decision
    audited, seed = verdicts.audited, sample.audit.seed
    right = verdicts.items(verdicts.answer == verdicts.label)
    low, high, num_rows = _scores(sample, audited.attribute.name)
    after, calibration, note = None, None, ""
    if sure is not None:
        try:
            calibration = fit_map(right, method)
            enough = low[calibration((low + high) / 2) >= sure]
            after = Decision(abstain=(float(enough.min()) if len(enough) else 1.0, 1.0))
        except RunError as error:
            note = str(error)

    def figures(decision: Decision) -> dict[str, Estimate]:
        counted = count_labels(low, high, num_rows, decision)
        return {"coverage": counted["coverage"]} | _class_figures(verdicts, decision, seed)

    return AttributeResult(
        **_count(verdicts),
        figures=figures(audited.decision),
        after=after,
        figures_after={} if after is None else figures(after),
        calibration=calibration,
        note=note,
    )


def _count(verdicts: AttributeVerdicts) -> dict[str, Any]:
    """Returns the fields of a result that say what was judged."""
    return {
        "attribute": verdicts.audited.attribute,
        "num_judged": len(verdicts.answer),
        "num_unsure": verdicts.num_unsure,
        "num_left": verdicts.num_left,
        "before": verdicts.audited.decision,
    }


def _class_figures(verdicts: AttributeVerdicts, decision: Decision, seed: int) -> dict[str, Estimate]:
    labelled = verdicts.score >= (decision.abstain[0] if decision.abstain else 0.0)

    def estimate(positive: np.ndarray, said: np.ndarray) -> dict[str, Estimate]:
        # What was said stands in for the score, as 0 or 1, so that a threshold of 1/2 tells it.
        items = replace(verdicts.items(positive), score=said.astype(np.float64), threshold=DEFAULT_THRESHOLD)
        return estimate_binary(items, Decision(), seed=seed)

    whole = estimate(verdicts.answer == verdicts.label, labelled)
    figures = {"accuracy": whole["precision"]}
    for index, name in enumerate(verdicts.audited.attribute.classes):
        one = estimate(verdicts.answer == index, labelled & (verdicts.label == index))
        figures |= {f"{figure}/{name}": one[figure] for figure in ("precision", "recall", "prevalence")}
    return figures


def _scores(sample: Sample, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = sample.scores.filter(pc.equal(sample.scores["attribute"], name))
    return table["low"].to_numpy(), table["high"].to_numpy(), table["num_rows"].to_numpy()


def _describe(result: AttributeResult) -> dict[str, Any]:
    return {
        "num_judged": result.num_judged,
        "num_unsure": result.num_unsure,
        "num_left": result.num_left,
        "before": asdict(result.before),
        "figures": {name: asdict(each) for name, each in result.figures.items()},
        "after": None if result.after is None else asdict(result.after),
        "figures_after": {name: asdict(each) for name, each in result.figures_after.items()},
        "calibration": None if result.calibration is None else result.calibration.to_json(),
        "note": result.note,
    }
