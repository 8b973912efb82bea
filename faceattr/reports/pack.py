"""Reports in a packed run next to its shards, rewritten with every version.

stratification.csv     counts and rates of every class by split, and differences beyond chance
splits/train.csv ...   image_id and labels as text; lists of more than a million rows are numbered parts
conflicts.csv          (written with the plan) copies of one image whose labels cannot all be true
near_copies.csv        (likewise) groups of images that are resized, re-encoded or mirrored copies of one another
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from faceattr.attributes import DEFAULT_THRESHOLD
from faceattr.data.formats.csv_cells import neutralise, neutralise_table
from faceattr.data.label_columns import read_attributes
from faceattr.data.packed.label_counts import UNKNOWN
from faceattr.data.packed.plan import CONFLICTS_KEY, NEAR_COPIES_KEY
from faceattr.data.packed.reader import FOLDER, SECTION_PREFIX, read_label_counts, split_of_shard
from faceattr.data.packed.splits import SPLITS
from faceattr.data.packed.stratification import ClassRates, compute_rates, describe_flags, rates_table
from faceattr.data.packed.writer import PackedStatistics
from faceattr.data.runs.commit import OK
from faceattr.data.runs.plan import PlanPart, read_part
from faceattr.data.runs.version import RunRecord, RunVersion, read_published
from faceattr.data.sources.label_values import label_texts
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import Store, has_object
from faceattr.errors import RunError, escape

STRATIFICATION_KEY = "stratification.csv"
_ROWS_IN_A_LIST = 2**20
_MOST_CLASSES = 12
_Row = list[str]


def write_pack_report(version: RunVersion, statistics: PackedStatistics) -> None:
    """Writes the tables into the run folder."""
    for section in version.record.plan.sections:
        _write_split_lists(version.store, version.record, section.name, statistics.bad_rows)
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(neutralise_table(rates_table(compute_rates(statistics.counts.to_table()))), buffer)
    version.store.put(STRATIFICATION_KEY, buffer.getvalue())  # written last: it marks the lists as complete


def write_missing_report(version: RunVersion) -> None:
    """Writes the tables of a published version if its session was killed before it had written them."""
    if has_object(version.store, STRATIFICATION_KEY):
        return
    statistics = PackedStatistics(version.record.plan, read_attributes(version.schema))
    for table in read_published(version.store):
        statistics.observe(table)
    write_pack_report(version, statistics)


def _write_split_lists(store: Store, record: RunRecord, section: str, bad_rows: set[int]) -> None:
    split = section.removeprefix(SECTION_PREFIX)
    attributes = read_attributes(record.carried_schema)
    lists = _lists(_split_rows(store, record, section, bad_rows))
    first, second = next(lists, []), next(lists, None)
    header = ["image_id", *attributes.names]
    if second is None:
        store.put(f"splits/{split}.csv", _encode(header, first))
        return
    for number, rows in enumerate(_chain(first, second, lists)):
        store.put(f"splits/{split}-{number:05d}.csv", _encode(header, rows))


def _split_rows(store: Store, record: RunRecord, section: str, bad_rows: set[int]) -> Iterator[_Row]:
    attributes = read_attributes(record.carried_schema)
    for part in _parts_of(record, section):
        table = read_part(store, part)
        numbers = table["row"].to_numpy()
        good = table.filter(pa.array(~np.isin(numbers, np.fromiter(bad_rows, np.int64, len(bad_rows)))))
        columns = [good["image_id"].to_pylist(), *(label_texts(each, good) for each in attributes.attributes)]
        yield from (list(row) for row in zip(*columns, strict=True))


def _parts_of(record: RunRecord, section: str) -> Iterator[PlanPart]:
    plan = record.plan
    for part in plan.parts:
        if plan.section_of(plan.part_shards(part).start).name == section:
            yield part


def _lists(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    held: list[_Row] = []
    for row in rows:
        held.append(row)
        if len(held) == _ROWS_IN_A_LIST:
            yield held
            held = []
    if held:
        yield held


def _chain(first: list[_Row], second: list[_Row], rest: Iterator[list[_Row]]) -> Iterator[list[_Row]]:
    yield first
    yield second
    yield from rest


def _encode(header: _Row, rows: list[_Row]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([neutralise(each) for each in header])
    writer.writerows([neutralise(each) for each in row] for row in rows)
    return buffer.getvalue().encode()


def describe_pack(version: RunVersion, problems: Sequence[str] = ()) -> str:
    """Returns the summary that is shown at the end of a pack run.

    Args:
        version: published version.
        problems: problems that would spoil a training; see `LabelCounts.problems`.
    """
    manifest, store, source = version.published, version.store, version.record.source
    if manifest is None:
        raise RunError(f"{store.uri}: this version is not published")
    rows: Counter[str] = Counter()
    for file in manifest.files:
        rows[split_of_shard(version.record.plan, file.shard)] += file.num_rows - file.num_bad
    lines = [
        f"{manifest.summary}, {sum(file.num_bytes for file in manifest.files) / 1e6:,.1f} MB",
        f"packed {rows.total():,}, rejected {manifest.num_rows - rows.total():,}",
        *(f"  {status}: {count:,}" for status, count in manifest.status_counts.items() if status != OK),
        *describe_splits(rows, read_label_counts(store, manifest), problems),
        *_describe_selection(source["selection"]),
        *_describe_dropped(source.get("dropped_issues")),
    ]
    rejects = source["rejects"]
    if rejects["total"]:
        lines.append(f"label rows that could not be used: {rejects['total']:,}")
    lines += [f"  {line}" for line in rejects["text"].splitlines()]
    lines += _describe_copies(source["facts"], store)
    lines += _describe_teachers(version.record.notes.get("teachers", {}))
    lines += [
        f"labels   {join_uri(store.uri, STRATIFICATION_KEY)}, {join_uri(store.uri, 'splits')}/*.csv",
        f"shards   {join_uri(store.uri, FOLDER)}/split=*/*.parquet",
        f"train    faceattr train --data {store.uri} --output MODEL",
    ]
    return "\n".join(lines)


def _describe_selection(selection: Mapping[str, int] | None) -> list[str]:
    if selection is None:
        return []
    chosen = f"{selection['positives']:,} positives and {selection['negatives']:,} negatives"
    return [f"selected {chosen}; left out {selection['left_out']:,}"]


def _describe_dropped(num_labels: int | None) -> list[str]:
    return [] if num_labels is None else [f"label issues: {num_labels:,} labels were set to unknown"]


def _describe_teachers(teachers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Describes unusual thresholds of the labelling runs, for people who compare scores with those runs."""
    lines = []
    for name, decision in teachers.items():
        if decision["threshold"] != DEFAULT_THRESHOLD:
            cut = f"{decision['threshold']:g}"
            lines.append(f"scores of {name} are recentred: threshold {cut} of the label run becomes 0.5 here")
    return lines


def _describe_copies(facts: Mapping[str, Any], store: Store) -> list[str]:
    lines = []
    if facts["merged"]:
        lines.append(f"{facts['merged']:,} rows were in several label tables and were merged")
    if facts["conflicts"]:
        done = f"{facts['masked']:,} labels were masked" if facts["masked"] else "kept"
        done = f"{facts['dropped']:,} rows were left out" if facts["dropped"] else done
        lines.append(
            f"conflicts: {facts['conflicts']:,} images have copies whose labels cannot all be true; {done}; "
            f"see {join_uri(store.uri, CONFLICTS_KEY)}"
        )
    near = facts.get("near")
    if near and near["groups"]:
        lines.append(
            f"near copies: {near['groups']:,} groups of {near['images']:,} images in all, each in one split; see "
            f"{join_uri(store.uri, NEAR_COPIES_KEY)}"
        )
        lines += [f"  {escape(' and '.join(pair))}" for pair in near["examples"]]
    if facts["moved"]:
        lines.append(f"{facts['moved']:,} rows left their official split, because a copy is in a held-out split")
    return lines


def describe_splits(rows: Mapping[str, int], label_counts: pa.Table, problems: Sequence[str]) -> list[str]:
    """Returns a table of images and labels by split, followed by notes on what is unusual.

    Args:
        rows: number of images by split.
        label_counts: table with `label_counts.COUNT_SCHEMA`.
        problems: see `LabelCounts.problems`.
    """
    rates = compute_rates(label_counts)
    lines = [_line("", SPLITS), _line("images", [f"{rows.get(split, 0):,}" for split in SPLITS])]
    for name in dict.fromkeys(each.attribute for each in rates):
        lines += _describe_attribute(name, [each for each in rates if each.attribute == name])
    lines += [f"note: {problem}" for problem in problems]
    flags = describe_flags(rates)
    if flags:
        lines += ["splits that differ by more than chance:", *(f"  {line}" for line in flags)]
    return lines


def _describe_attribute(name: str, rates: list[ClassRates]) -> list[str]:
    classes = [each for each in rates if each.label != UNKNOWN]
    if {each.label for each in classes} == {"no", "yes"}:
        classes = [each for each in classes if each.label == "yes"]
    shown = sorted(classes, key=lambda each: -sum(each.counts.values()))[:_MOST_CLASSES]
    lines = []
    for each in [each for each in classes if each in shown]:
        rates_of_splits = [each.rates[split] for split in SPLITS]
        cells = ["" if rate is None else f"{rate:.1%}" for rate in rates_of_splits]
        lines.append(_line(f"{name} {each.label}", cells))
    if len(classes) > len(shown):
        lines.append(f"  {name}: {len(classes) - len(shown):,} more classes")
    unknown = next(each for each in rates if each.label == UNKNOWN)
    if any(unknown.counts.values()):
        lines.append(_line(f"{name} unknown", [f"{unknown.counts[split]:,}" for split in SPLITS]))
    return lines


def _line(head: str, cells: Sequence[str]) -> str:
    return f"  {head[:30]:30}" + "".join(f"{cell:>11}" for cell in cells)
