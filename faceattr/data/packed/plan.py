"""The plan of a packed run: which split every image is in, in which order they stand, and with which labels.

    all rows --two passes--> splits --one pass--> buckets on disk --sort, resolve copies--> plan, a section a split

Memory holds what `splits.plan_splits` holds and one bucket; images are not looked at.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import AttributeSet
from faceattr.data.label_columns import HEAD_FIELDS, source_schema
from faceattr.data.packed.copies import CopyResolver, Policy, encode_conflicts
from faceattr.data.packed.label_counts import LabelCounts
from faceattr.data.packed.shuffle import ShuffledRows
from faceattr.data.packed.splits import SPLITS, SplitAssignment, SplitRatios, count_moved, plan_splits
from faceattr.data.packed.writer import carried_schema, split_section
from faceattr.data.runs.plan import Plan, choose_shard_size, plan_schema, write_sectioned_plan
from faceattr.data.stores.store import Store

CONFLICTS_KEY = "conflicts.csv"
# Columns of the rows that a plan is made of, in front of the labels.
ROW_FIELDS = (
    *HEAD_FIELDS,
    pa.field("num_bytes", pa.int64()),
    pa.field("place", pa.int16(), nullable=False),
)
ReadRows = Callable[[], Iterable[pa.Table]]


def label_fields_of(attributes: AttributeSet, scored: Iterable[str]) -> list[pa.Field]:
    """The label columns of a source's schema."""
    return list(source_schema(attributes, scored))[len(HEAD_FIELDS) :]


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """What decides the split of an image.

    Attributes:
        ratios: shares of the images without an official split.
        seed: of the draw, and of the order of the rows.
        official: what the official names become, as `plan_splits` takes it.
        by_group: whether images of one group stay together.
    """

    ratios: SplitRatios
    seed: int
    official: Mapping[str, str | None]
    by_group: bool

    def plan(self, read: ReadRows) -> SplitAssignment:
        """Looks at all rows, in two passes."""
        return plan_splits(lambda: map(self._keys, read()), ratios=self.ratios, seed=self.seed, official=self.official)

    def assign(self, assignment: SplitAssignment, table: pa.Table) -> pa.Array:
        """Splits of rows, string [n]."""
        return assignment.assign(self._keys(table))

    def _keys(self, table: pa.Table) -> pa.Table:
        keys = table.select(["image_id", "sha256", "group", "split"])
        return keys if self.by_group else keys.set_column(2, "group", pa.nulls(len(keys), pa.string()))


@dataclass(kw_only=True)
class PlanFacts:
    """What became of the rows that were given.

    Attributes:
        given: rows.
        moved: rows that left their official split, because a copy of them is in a more held-out one.
        conflicts: different images whose copies have labels that cannot all be true.
        masked: labels forgotten for that.
        dropped: rows left out for that.
        merged: rows that became part of the row of the same image in another table.
    """

    given: int = 0
    moved: int = 0
    conflicts: int = 0
    masked: int = 0
    dropped: int = 0
    merged: int = 0

    def to_json(self) -> dict[str, int]:
        """Plain form for run.json."""
        return asdict(self)


def write_pack_plan(
    store: Store,
    read: ReadRows,
    *,
    attributes: AttributeSet,
    scored: Iterable[str],
    rules: SplitRules,
    policy: Policy,
    row_bytes: float,
    max_shard_bytes: int,
) -> tuple[Plan, PlanFacts]:
    """Draws the splits and writes the plan and the list of conflicts.

    Args:
        store: the run folder.
        read: a new pass over the rows: ROW_FIELDS and the label columns; no image_id twice.
        attributes: of the label columns.
        scored: those with soft scores.
        rules: what decides the split.
        policy: what happens to copies whose labels conflict.
        row_bytes: what an image will take in a shard; 0 if nobody knows.
        max_shard_bytes: how large a shard may become.

    Raises:
        ConfigError: there is no row, or an official split is not known.
    """
    facts = PlanFacts()
    assignment = rules.plan(read)
    schema = plan_schema(list(carried_schema(label_fields_of(attributes, scored))))
    with ShuffledRows(schema, rules.seed) as shuffled:
        for table in read():
            splits = rules.assign(assignment, table)
            facts.given += len(table)
            facts.moved += count_moved(table, splits, official=rules.official)
            rows = _plan_rows(table, schema)
            for split in SPLITS:
                shuffled.add(split, rows.filter(pc.equal(splits, split)))
        resolver = CopyResolver(attributes, policy)

        def resolved(split: str) -> Iterator[pa.Table]:
            return map(resolver.resolve, shuffled.buckets(split))

        plan = write_sectioned_plan(
            store,
            ((split_section(split), resolved(split)) for split in SPLITS),
            unique_by_source=True,
            shard_size=choose_shard_size(facts.given, row_bytes=row_bytes, max_bytes=max_shard_bytes),
        )
    facts.conflicts, facts.masked = resolver.num_contents, resolver.num_masked
    facts.dropped, facts.merged = resolver.num_dropped, resolver.num_merged
    store.put(CONFLICTS_KEY, encode_conflicts(resolver.conflicts))
    return plan, facts


def _plan_rows(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [table[each.name] if each.name != "etag" else pa.nulls(len(table), each.type) for each in schema]
    return pa.table(columns, schema=schema)


def count_splits(read: ReadRows, rules: SplitRules, attributes: AttributeSet) -> LabelCounts:
    """How many images and labels each split would get; nothing is written. Three passes."""
    assignment = rules.plan(read)
    counts = LabelCounts(attributes)
    for table in read():
        counts.add(table, rules.assign(assignment, table))
    return counts
