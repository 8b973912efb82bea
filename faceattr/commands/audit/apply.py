"""`faceattr audit apply`: what people's judgements say of a table, and the thresholds that follow."""

from dataclasses import dataclass, field
from typing import Literal

import tyro

from faceattr.audit.choose import MapMethod
from faceattr.audit.folder import RIGHTLY_REJECTED, read_sample
from faceattr.audit.images import ItemImages
from faceattr.audit.judgements import read_judgements
from faceattr.audit.lists.count import ListCounts
from faceattr.audit.result import REPORT_KEY, RESULT_KEY, THRESHOLDS_KEY, AttributeResult, AuditResult, judge
from faceattr.audit.threshold_file import encode_thresholds
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.config.checks import check, check_choice
from faceattr.config.evaluate import Criterion, CriterionName
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_output
from faceattr.errors import ConfigError
from faceattr.logs import say
from faceattr.reports.audit import render_audit_report
from faceattr.reports.pages import format_kappa
from faceattr.reports.strips.audit import draw_audit_strips

AuditCriterion = CriterionName | Literal["prevalence"]
_SHOWN = ("precision", "recall", "f1", "accuracy", "prevalence")


@dataclass(frozen=True, kw_only=True)
class AuditApply:
    """Estimates precision, recall, F1 and prevalence from judgements, and chooses thresholds."""

    audit: tyro.conf.Positional[str]
    """Audit folder of `faceattr audit sample`."""
    criterion: AuditCriterion = "f1"
    """What a threshold maximises. `prevalence`: as many rows are labelled yes as have the attribute."""
    min_recall: float = 0.9
    """precision_at_recall: the recall that must be reached."""
    cost_false_positive: float = 1.0
    """cost: cost of a false positive."""
    cost_false_negative: float = 1.0
    """cost: cost of a false negative."""
    calibration: MapMethod = "platt"
    """Map from scores to probabilities: `platt` has two parameters, `isotonic` is any rising curve and needs several
    hundred judgements per attribute."""
    sure: float | None = None
    """Label null what would be right with a lower probability than this, such as 0.9. Default: label everything."""
    thumbnails: bool = False
    """Show images in the report: the worst mistakes, and the most doubtful, highest and lowest scores of each
    attribute. This copies images into it."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: ImageLimitsConfig = field(default_factory=ImageLimitsConfig)

    def __post_init__(self) -> None:
        check_choice("calibration", self.calibration, MapMethod)
        check(self.sure is None or 0.5 < self.sure < 1, "sure", self.sure, "more than 0.5 and less than 1")
        _ = self.chosen

    @property
    def chosen(self) -> Criterion | Literal["prevalence"]:
        """The criterion with its settings. Raises ConfigError if one is out of range."""
        if self.criterion == "prevalence":
            return self.criterion
        return Criterion(
            name=self.criterion,
            min_recall=self.min_recall,
            cost_false_positive=self.cost_false_positive,
            cost_false_negative=self.cost_false_negative,
        )

    def __call__(self) -> int:
        """Writes thresholds.yaml, result.json and report.html into the audit folder, and prints the figures."""
        store = open_output(self.audit, self.storage)
        sample = read_sample(store)
        judgements = read_judgements(store)
        if not judgements:
            raise ConfigError(f"{store.uri} has no judgements yet; judge with: faceattr audit review {store.uri}")
        result = judge(sample, judgements, self.chosen, method=self.calibration, sure=self.sure)
        attributes = {each.attribute.name: each.attribute for each in result.attributes}
        if result.decisions:
            comment = (
                f"Chosen by faceattr audit apply ({self.criterion}) from "
                f"{sum(each.num_judged for each in result.attributes)} judgements of {sample.audit.table}"
            )
            store.put(THRESHOLDS_KEY, encode_thresholds(result.decisions, attributes, comment))
        store.put(RESULT_KEY, result.encode())
        strips = None
        if self.thumbnails:
            images = ItemImages(sample, store, self.storage, self.decode)
            strips = draw_audit_strips(sample, judgements, images, self.decode)
        store.put(REPORT_KEY, render_audit_report(sample, result, strips).encode())
        say(describe_result(result))
        if result.decisions:
            say(f"thresholds  {join_uri(store.uri, THRESHOLDS_KEY)}")
        say(f"report      {join_uri(store.uri, REPORT_KEY)}")
        return 0


def describe_result(result: AuditResult) -> str:
    """Returns the figures for the user: as labelled now, then with the chosen thresholds."""
    lines = [line for each in result.attributes for line in _describe(each)]
    for pair in result.agreement:
        lines.append(
            f"{' and '.join(pair.reviewers)} agree on {pair.agreement:.1%} of {pair.num_items} {pair.attribute} items, "
            f"kappa {format_kappa(pair.kappa)}"
        )
    return "\n".join([*lines, *(_describe_list(each) for each in result.lists if each.rows.num_listed)])


def _describe_list(each: ListCounts) -> str:
    rows = each.rows
    who, right, wrong = "rejected", "rightly", "wrongly"
    if rows.attribute != RIGHTLY_REJECTED:
        who, right, wrong = "the table is", "right", "wrong"
    return (
        f"{each.title}  ({rows.num_listed:,} of {rows.num_rows:,} rows listed): {who} {right} in {each.num_right:,}, "
        f"{wrong} in {each.num_wrong:,}, {each.num_unsure:,} cannot tell, {each.num_left:,} left"
    )


def _describe(result: AttributeResult) -> list[str]:
    told = f"{result.num_judged} judged, {result.num_unsure} cannot tell, {result.num_left} left"
    lines = [f"{result.attribute.name}  ({told})"]
    tables = [("now", result.before, result.figures)]
    if result.after is not None:
        tables.append(("chosen", result.after, result.figures_after))
    for word, decision, figures in tables:
        band = (
            ""
            if decision.abstain is None
            else f", null between {decision.abstain[0]:.3f} and {decision.abstain[1]:.3f}"
        )
        at = f"threshold {decision.threshold:.3f}{band}" if result.attribute.has_threshold else band.lstrip(", ")
        lines.append(f"  {word:7} {at}".rstrip())
        lines += [
            f"    {name:11} {each.value:.3f}  [{each.low:.3f}, {each.high:.3f}]"
            for name, each in figures.items()
            if name in _SHOWN or (name == "coverage" and decision.abstain is not None)
        ]
    return [*lines, *([f"  note: {result.note}"] if result.note else [])]
