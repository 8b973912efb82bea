"""performance_report.txt, in the UTKFace ViT's layout: one section per attribute, with a report on its classes."""

import math
import warnings
from collections.abc import Sequence

from sklearn.metrics import classification_report

from faceattr.evaluation.evaluate import Difference, Evaluation
from faceattr.evaluation.groups import GroupTable
from faceattr.evaluation.judged import JudgedRows
from faceattr.reports.tables.numbers import show_interval, show_number

_RULE = "=" * 72
_LINE = "-" * 72
# With more classes only the means are listed.
_MAX_CLASSES = 40


def write_performance_report(
    evaluation: Evaluation, *, model: str, data: Sequence[str], differences: Sequence[Difference], compared: str | None
) -> str:
    """Returns the text of the report."""
    num_rows = len({row for judged in evaluation.judged.values() for row in judged.rows.tolist()})
    lines = [
        _RULE,
        "MODEL PERFORMANCE REPORT",
        _RULE,
        f"Model: {model}",
        f"Data:  {', '.join(data)}, split {evaluation.split}",
        f"Rows:  {num_rows:,} with a label",
        "Brackets are 95 % intervals: Wilson's for shares of rows, the bootstrap's for other figures. Groups of rows",
        "(one person's, or copies of an image) are resampled as a whole. ece is biased by noise and has no interval.",
    ]
    for name, judged in evaluation.judged.items():
        lines += ["", f"{name.upper().replace('_', ' ')} ({_describe_kind(judged)})", _LINE]
        if len(judged):
            lines.append(f"  rows {judged.resampling}")
        lines += [_figure_line(evaluation, name, figure) for figure in evaluation.figures[name] if "/" not in figure]
        lines += _report_lines(judged)
        if name in evaluation.fitted.trials:
            lines.append(f"  {evaluation.fitted.trials[name]}")
        if name in evaluation.fitted.thresholds:
            whose = "chosen on validation" if name in evaluation.fitted.chosen else "the model's own"
            lines.append(f"  threshold {evaluation.fitted.thresholds[name]:.4f}, {whose}")
    if "combined" in evaluation.figures:
        lines += ["", "COMBINED (0.3 gender accuracy + 0.7 identity top-1)", _LINE]
        lines.append(_figure_line(evaluation, "combined", "score"))
    for table in evaluation.groups:
        lines += ["", f"{table.attribute.upper().replace('_', ' ')} BY {table.by.upper()}", _LINE, *_group_lines(table)]
    if compared is not None:
        lines += ["", f"AGAINST {compared}", _LINE, f"  {'':34}{'that':>9}{'this':>9}  this minus that"]
        lines += [_difference_line(each) for each in differences if "/" not in each.name]
    lines += ["", *(f"note: {note}" for note in evaluation.fitted.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _describe_kind(judged: JudgedRows) -> str:
    return f"{judged.attribute.label_words}, {len(judged):,} rows"


def _figure_line(evaluation: Evaluation, attribute: str, name: str) -> str:
    figure = evaluation.figures[attribute][name]
    interval = evaluation.intervals.get(attribute, {}).get(name)
    return f"  {name:20}{show_number(figure.value, '.4f'):>9}  {show_interval(interval, '.4f')}".rstrip()


def _report_lines(judged: JudgedRows) -> list[str]:
    names = judged.attribute.classes
    if not judged.attribute.has_class_scores or len(names) > _MAX_CLASSES or not len(judged):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = classification_report(
            judged.labels, judged.predictions, labels=range(len(names)), target_names=names, digits=4, zero_division=0
        )
    return ["", *(f"  {line}" if line else "" for line in report.splitlines()), ""]


def _group_lines(table: GroupTable) -> list[str]:
    width = max(len(name) for name in (*table.groups, "by chance"))
    lines = [f"  {'':{width}}{'rows':>8}" + "".join(f"{name:>21}" for name in table.figures)]
    for place, group in enumerate(table.groups):
        values = "".join(f"{show_number(value, '.4f'):>21}" for value in table.values[place].tolist())
        mark = "  (few rows)" if table.small[place] else ""
        lines.append(f"  {group:{width}}{table.counts[place]:>8,}{values}{mark}")
    gaps = list(table.gaps.values())
    for head, cells in (
        ("gap", [show_number(gap.value, ".4f") for gap in gaps]),
        ("95 %", [show_interval(gap.interval, ".4f") or "-" for gap in gaps]),
        ("by chance", [show_number(gap.by_chance, ".4f") for gap in gaps]),
        ("", [gap.verdict for gap in gaps]),
    ):
        lines.append(f"  {head:{width}}{'':8}" + "".join(f"{cell:>21}" for cell in cells))
    return [*lines, f"  rows {table.resampling}"]


def _difference_line(each: Difference) -> str:
    gap, interval = each.second - each.first, each.interval
    sure = "" if interval.low <= 0 <= interval.high or math.isnan(interval.low) else "  *"
    name = f"{each.attribute} {each.name}"
    values = f"{show_number(each.first, '.4f'):>9}{show_number(each.second, '.4f'):>9}"
    return f"  {name:34}{values}  {show_number(gap, '+.4f')} {show_interval(interval, '+.4f')}{sure}"
