"""The plan of a packed run: the split, the position and the labels of every image.

    all rows --two passes--> splits --one pass--> buckets on disk --sort, resolve copies--> plan, one section per split

Memory contains what `splits.plan_splits` needs and one bucket; images are not read.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import AttributeSet
from faceattr.data.label_columns import HEAD_FIELDS, source_schema
from faceattr.data.packed.copies.identical import CopyResolver, Policy, encode_conflicts
from faceattr.data.packed.copies.near import NearCopies, find_near_copies
from faceattr.data.packed.label_counts import LabelCounts
from faceattr.data.packed.shuffle import ShuffledRows
from faceattr.data.packed.splits import SPLITS, SplitAssignment, SplitRatios, count_moved, plan_splits
from faceattr.data.packed.writer import carried_schema, split_section
from faceattr.data.runs.plan import Plan, choose_shard_size, plan_schema, write_sectioned_plan
from faceattr.data.stores.store import Store

CONFLICTS_KEY = "conflicts.csv"
NEAR_COPIES_KEY = "near_copies.csv"
# Columns of the rows that a plan is made from, before the labels.
ROW_FIELDS = (
    *HEAD_FIELDS,
    pa.field("num_bytes", pa.int64()),
    pa.field("place", pa.int16(), nullable=False),
)
ReadRows = Callable[[], Iterable[pa.Table]]


def label_fields_of(attributes: AttributeSet, scored: Iterable[str]) -> list[pa.Field]:
    """Returns the label columns of a source's schema."""
    return list(source_schema(attributes, scored))[len(HEAD_FIELDS) :]


@dataclass(frozen=True, kw_only=True)
class SplitRules:
    """The rules that decide the split of an image.

    Attributes:
        ratios: shares of the images without an official split.
        seed: random seed of the draw and of the order of the rows.
        official: what official split names become, as in `plan_splits`.
        by_group: whether images of one group stay together.
        near: groups of near copies, which stay together as byte-identical images do; None if they are not searched.
    """

    ratios: SplitRatios
    seed: int
    official: Mapping[str, str | None]
    by_group: bool
    near: NearCopies | None = None

    def plan(self, read: ReadRows) -> SplitAssignment:
        """Plans the splits of all rows, in two passes."""
        return plan_splits(lambda: map(self._keys, read()), ratios=self.ratios, seed=self.seed, official=self.official)

    def assign(self, assignment: SplitAssignment, table: pa.Table) -> pa.Array:
        """Returns the splits of rows, string [n]."""
        return assignment.assign(self._keys(table))

    def _keys(self, table: pa.Table) -> pa.Table:
        keys = table.select(["image_id", "sha256", "group", "split"])
        if self.near is not None:
            keys = keys.set_column(1, "sha256", self.near.contents_of(table))
        return keys if self.by_group else keys.set_column(2, "group", pa.nulls(len(keys), pa.string()))


@dataclass(kw_only=True)
class PlanFacts:
    """Counts of what happened to the input rows.

    Attributes:
        given: input rows.
        moved: rows that left their official split, because a copy of them is in a more held-out one.
        conflicts: different images whose copies have contradicting labels.
        masked: labels set to unknown for that reason.
        dropped: rows left out for that reason.
        merged: rows merged into the row of the same image in another table.
        near: what was found of near copies, see `NearCopies.summarise`; None if they were not searched.
    """

    given: int = 0
    moved: int = 0
    conflicts: int = 0
    masked: int = 0
    dropped: int = 0
    merged: int = 0
    near: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the plain form for run.json."""
        return {name: value for name, value in asdict(self).items() if name != "near" or value is not None}


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
    near_copies: int | None = None,
) -> tuple[Plan, PlanFacts]:
    """Draws the splits, and writes the plan and the list of conflicts.

    Args:
        store: the run folder.
        read: starts a new pass over the rows: ROW_FIELDS and the label columns; image_id must be unique.
        attributes: attributes of the label columns.
        scored: names of the attributes with soft scores.
        rules: the rules that decide the split.
        policy: how copies with conflicting labels are resolved.
        row_bytes: expected bytes of an image in a shard; 0 if unknown.
        max_shard_bytes: largest size of a shard, in bytes.
        near_copies: largest distance of near copies; the rows then have the column of `near_copies.HASH_FIELD`.

    Raises:
        ConfigError: there is no row, or an official split is unknown.
    """
    facts = PlanFacts()
    if near_copies is not None:
        near = find_near_copies(read, near_copies)
        rules, facts.near = replace(rules, near=near), near.summarise()
        store.put(NEAR_COPIES_KEY, near.encode())
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
    """Returns how many images and labels each split would get; writes nothing. Three passes."""
    assignment = rules.plan(read)
    counts = LabelCounts(attributes)
    for table in read():
        counts.add(table, rules.assign(assignment, table))
    return counts
