"""Ranks the labels of a packed run by how probably they are wrong.

Each voice says how much a label is doubted, from 0 to 1; the list is ranked by the mean of those that a row has:

    heads      (1 - margin) / 2, from heads on features that have not learnt from the row (`confident.py`)
    teacher    1 - the probability that the labelling run gave to the label, where scores were packed
    rule       1 where the label contradicts what a derived attribute's rule says of the row's other labels

A label is an issue if confident learning or a rule says so. The list also holds the labels that are merely less likely
than another class, so that people can read on where the issues end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from faceattr.attributes import Attribute, DerivedAttribute
from faceattr.audit.issues.confident import JudgedLabels, judge_labels
from faceattr.audit.issues.rules import class_indices, evaluate_rule
from faceattr.data.packed.label_issues import LABEL_ISSUES_SCHEMA
from faceattr.data.packed.reader import PackedData
from faceattr.data.runs.plan import Plan
from faceattr.devices import resolve_device
from faceattr.evaluation.uncertainty.clusters import number_clusters, read_clusters
from faceattr.training.features.cache import Features
from faceattr.training.features.out_of_fold import NO_LABEL, ClassLabels, score_out_of_fold

_SHOWN_CHANGES = 3
_IDENTITY = ["row", "image_id", "sha256", "group", "split"]


@dataclass(frozen=True, kw_only=True)
class AttributeIssues:
    """What was found of one attribute.

    Attributes:
        name: its name.
        num_labels: labels that were judged.
        num_issues: how many of them are issues.
        expected_issues: estimated number of wrong labels, by confident learning.
        changes: number of issues by (given class, suggested class).
    """

    name: str
    num_labels: int
    num_issues: int
    expected_issues: float
    changes: Mapping[tuple[str, str], int]


@dataclass(frozen=True, kw_only=True)
class LabelIssues:
    """The ranked list.

    Attributes:
        table: rows in `LABEL_ISSUES_SCHEMA`, attribute by attribute, the most doubtful label first.
        attributes: what was found of each attribute.
        skipped: attribute -> why it was not judged.
    """

    table: pa.Table
    attributes: tuple[AttributeIssues, ...]
    skipped: Mapping[str, str]


def find_label_issues(
    data: PackedData,
    plan: Plan,
    features: Mapping[str, Features],
    *,
    attributes: Sequence[Attribute],
    rules: Sequence[DerivedAttribute],
    num_folds: int,
    seed: int,
    device: str,
) -> LabelIssues:
    """Judges all labels of some attributes. Memory holds the features of all rows, and a few hundred bytes per row.

    Args:
        data: one packed run.
        plan: its plan.
        features: split -> features of its rows.
        attributes: attributes to judge.
        rules: derived attributes that the data also have labels of.
        num_folds: number of folds, 2 or more; rows of one person or of one content are in one fold.
        seed: random seed of the folds and of the heads.
        device: where the heads train; `auto` is a GPU if there is one.
    """
    rows = _read_rows(data, plan)
    labels: dict[str, ClassLabels] = {}
    skipped: dict[str, str] = {}
    for each in attributes:
        why = _why_not(each, rows, num_folds)
        if why is None:
            known = torch.from_numpy(class_indices(rows, each.name))
            labels[each.name] = ClassLabels(labels=known, num_classes=len(each.classes))
        else:
            skipped[each.name] = why
    if not labels:
        return LabelIssues(table=LABEL_ISSUES_SCHEMA.empty_table(), attributes=(), skipped=skipped)
    clusters = number_clusters(read_clusters(rows), len(rows))
    folds = np.random.default_rng(seed).integers(0, num_folds, int(clusters.max(initial=0)) + 1)[clusters]
    inputs = torch.cat([features[split].load() for split in data.splits if split in features])
    probabilities = score_out_of_fold(inputs, labels, torch.from_numpy(folds), seed=seed, device=resolve_device(device))
    derived = {rule.name: evaluate_rule(rule, rows) for rule in rules}
    tables = [LABEL_ISSUES_SCHEMA.empty_table()]
    found: list[AttributeIssues] = []
    for each in attributes:
        if each.name in labels:
            table, summary = _list_issues(rows, each, probabilities[each.name].numpy(), derived.get(each.name))
            tables.append(table)
            found.append(summary)
    return LabelIssues(table=pa.concat_tables(tables), attributes=tuple(found), skipped=skipped)


def _read_rows(data: PackedData, plan: Plan) -> pa.Table:
    """Returns all rows, split by split, without images; with `uri` and `source_row`, the place of the image."""
    tables = []
    for files in data.splits.values():
        for file in files:
            rows = data.read_rows(file, [*_IDENTITY, *data.label_columns])
            numbers = rows["row"].to_numpy()
            starts = np.array([plan.shard_range(shard).start for shard in plan.shards_of(numbers).tolist()], np.int64)
            rows = rows.append_column("uri", pa.repeat(file.uri, len(rows)))
            tables.append(rows.append_column("source_row", pa.array(numbers - starts)))
    return pa.concat_tables(tables)


def _why_not(attribute: Attribute, rows: pa.Table, num_folds: int) -> str | None:
    if not attribute.has_classes or attribute.is_person:
        return f"its labels are {attribute.label_words}, and only classes are judged"
    counts = np.bincount(class_indices(rows, attribute.name) + 1, minlength=len(attribute.classes) + 1)[1:]
    if (counts >= num_folds).sum() < 2:
        return f"fewer than two of its classes have at least {num_folds} labels"
    return None


def _list_issues(
    rows: pa.Table, attribute: Attribute, probabilities: np.ndarray, derived: np.ndarray | None
) -> tuple[pa.Table, AttributeIssues]:
    name = attribute.name
    labels = class_indices(rows, name)
    known = np.flatnonzero(labels != NO_LABEL)
    given, rows = labels[known], rows.take(pa.array(known))
    judged = judge_labels(given, probabilities[known])
    teacher = _teacher_confidence(rows, attribute, given)
    says = np.full(len(known), NO_LABEL) if derived is None else derived[known]
    contradicts = (says != NO_LABEL) & (says != given)
    doubt = _mean_doubt(judged, teacher, contradicts)
    is_issue = judged.is_issue | contradicts
    kept = np.flatnonzero(is_issue | (judged.margin < 0))
    kept = kept[np.lexsort((rows["row"].to_numpy()[kept], -doubt[kept]))]
    likely = probabilities[known]
    suggested = np.where(judged.is_issue, judged.suggested, np.where(contradicts, says, likely.argmax(1)))
    score = likely[:, 1] if attribute.is_yes_no else likely.max(1)
    made = {
        "attribute": pa.repeat(name, len(kept)),
        "rank": pa.array(np.arange(1, len(kept) + 1), pa.int32()),
        "label": pa.array(given[kept], pa.int32()),
        "suggested": pa.array(suggested[kept], pa.int32()),
        "score": pa.array(score[kept]),
        "confidence": pa.array(judged.confidence[kept]),
        "margin": pa.array(judged.margin[kept]),
        "teacher": pa.array(teacher[kept], mask=np.isnan(teacher[kept])),
        "derived": pa.array(says[kept], pa.int32(), mask=says[kept] == NO_LABEL),
        "doubt": pa.array(doubt[kept]),
        "is_issue": pa.array(is_issue[kept]),
    }
    listed = rows.take(pa.array(kept))
    columns = [made[each.name] if each.name in made else listed[each.name] for each in LABEL_ISSUES_SCHEMA]
    table = pa.table(columns, names=LABEL_ISSUES_SCHEMA.names).cast(LABEL_ISSUES_SCHEMA)
    issues = table.filter(table["is_issue"])
    return table, AttributeIssues(
        name=name,
        num_labels=len(known),
        num_issues=len(issues),
        expected_issues=judged.expected_issues,
        changes=_count_changes(issues, attribute),
    )


def _teacher_confidence(rows: pa.Table, attribute: Attribute, given: np.ndarray) -> np.ndarray:
    """Returns the probability that the packed scores give to the given labels, float32 [n]; NaN without a score."""
    name = f"{attribute.name}_score"
    if name not in rows.column_names:
        return np.full(len(rows), np.nan, np.float32)
    if attribute.is_yes_no:
        yes = rows[name].to_numpy().astype(np.float32)
        return np.where(given == 1, yes, 1 - yes)
    scores = rows[name].combine_chunks()
    known = scores.is_valid().to_numpy(zero_copy_only=False)
    found = np.full(len(rows), np.nan, np.float32)
    by_class = scores.flatten().to_numpy().reshape(-1, len(attribute.classes))
    found[known] = by_class[np.arange(len(by_class)), given[known]]
    return found


def _mean_doubt(judged: JudgedLabels, teacher: np.ndarray, contradicts: np.ndarray) -> np.ndarray:
    """Returns the mean of the voices that each row has, float32 [n]; a rule that agrees is no voice."""
    heads = (1 - judged.margin) / 2
    voices = np.stack([heads, 1 - teacher, np.where(contradicts, 1, np.nan)])
    return np.asarray(np.nanmean(voices, axis=0), np.float32)


def _count_changes(issues: pa.Table, attribute: Attribute) -> dict[tuple[str, str], int]:
    counted = issues.group_by(["label", "suggested"], use_threads=False).aggregate([([], "count_all")])
    pairs = sorted(counted.to_pylist(), key=lambda each: (-each["count_all"], each["label"], each["suggested"]))
    return {
        (attribute.classes[each["label"]], attribute.classes[each["suggested"]]): each["count_all"] for each in pairs
    }


def describe_issues(found: LabelIssues) -> str:
    """Returns the summary for the user: a line per attribute, and the most frequent changes."""
    lines = []
    for each in found.attributes:
        share = each.expected_issues / max(1, each.num_labels)
        lines.append(
            f"{each.name}: {each.num_issues:,} issues among {each.num_labels:,} labels; about {share:.1%} of them are "
            "expected to be wrong"
        )
        shown = list(each.changes.items())[:_SHOWN_CHANGES]
        lines += [f"  {given} should be {other}: {count:,}" for (given, other), count in shown]
    lines += [f"{name}: not judged, {why}" for name, why in found.skipped.items()]
    return "\n".join(lines)
