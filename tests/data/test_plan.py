"""The frozen input list: dense numbers, shards that never cross a part, repeats refused."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest

from faceattr.data.formats.repeated_keys import RepeatedKeys
from faceattr.data.runs.plan import (
    PART_ROWS,
    Plan,
    PlanPart,
    PlanSection,
    _refuse_repeated,
    choose_shard_size,
    plan_schema,
    read_part,
    read_shards,
    write_plan,
    write_sectioned_plan,
)
from faceattr.errors import ConfigError
from tests.fakes.stores import MemoryStore


def rows(keys, num_bytes=1, carried=()):
    """A table as an input gives it."""
    keys = list(keys)
    sizes = pa.array([num_bytes] * len(keys), pa.int64())
    nulls = [pa.nulls(len(keys), pa.string()), pa.nulls(len(keys), pa.int64())]
    fields = [pa.field(name, values.type) for name, values in carried]
    return pa.table(
        [
            pa.array(keys),
            pa.array([f"s3://b/{key}" for key in keys]),
            sizes,
            *nulls,
            *(values for _, values in carried),
        ],
        schema=plan_schema(fields),
    )


def numbered(start, stop):
    return rows(f"{number:06d}.jpg" for number in range(start, stop))


@pytest.mark.parametrize(
    ("num_rows", "size"),
    [
        (1, 256),
        (524_288, 256),  # 256 * 2,048
        (524_289, 512),
        (1_048_577, 1_024),
        (100_000_000, 65_536),
        (5_000_000_000, 65_536),
    ],
)
def test_shard_sizes(num_rows, size):
    assert choose_shard_size(num_rows) == size


def test_shards_of_rows_and_of_parts():
    parts = (PlanPart(key="a", first_row=0, num_rows=16), PlanPart(key="b", first_row=16, num_rows=5))
    plan = Plan(num_rows=21, num_bytes=0, shard_size=8, parts=parts)
    assert plan.num_shards == 3
    assert [plan.shard_range(shard) for shard in range(3)] == [range(8), range(8, 16), range(16, 21)]
    assert [plan.part_shards(part) for part in parts] == [range(2), range(2, 3)]
    assert [plan.parts_with(np.array(shards, np.int64)) for shards in ([], [1], [2], [0, 2])] == [[], [0], [1], [0, 1]]
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_shard_holds_no_more_bytes_than_it_may():
    assert choose_shard_size(1_000, row_bytes=10_000, max_bytes=2_560_000) == 256
    assert choose_shard_size(1_000, row_bytes=10_000, max_bytes=2_559_999) == 128
    assert choose_shard_size(100_000_000, row_bytes=20_000, max_bytes=64 * 2**20) == 2_048  # 41 MB
    assert choose_shard_size(10, row_bytes=1e9, max_bytes=1) == 1
    assert choose_shard_size(10, row_bytes=0.0, max_bytes=1) == 256


def test_sections_begin_parts_and_shards():
    store = MemoryStore()
    sections = [("a", [numbered(0, 5), numbered(5, 11)]), ("none", []), ("b", [numbered(11, 19)]), ("c", [])]
    plan = write_sectioned_plan(store, sections, shard_size=4)
    assert plan.sections == (PlanSection(name="a", first_row=0), PlanSection(name="b", first_row=11))
    assert [(part.first_row, part.num_rows) for part in plan.parts] == [(0, 11), (11, 8)]
    ranges = [range(4), range(4, 8), range(8, 11), range(11, 15), range(15, 19)]
    assert [plan.shard_range(shard) for shard in range(plan.num_shards)] == ranges
    expected = [shard for shard, rows in enumerate(ranges) for _ in rows]
    assert plan.shards_of(np.arange(19)).tolist() == expected
    assert [plan.section_of(shard).name for shard in range(5)] == ["a", "a", "a", "b", "b"]
    assert [plan.part_shards(part) for part in plan.parts] == [range(3), range(3, 5)]
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert read_shards(store, plan, plan.parts[1], np.array([4]))["row"].to_pylist() == [15, 16, 17, 18]


def test_a_plan_without_sections_is_written_as_ever():
    plan = write_plan(MemoryStore(), [numbered(0, 3)])
    assert sorted(plan.to_json()) == ["num_bytes", "num_rows", "parts", "shard_size"]


def test_rows_are_numbered_densely_over_parts_whatever_the_tables_sizes():
    store = MemoryStore()
    ends = [0, 1, 60_000, 60_000, 65_536 + 10, 65_536 + 300]
    plan = write_plan(store, [numbered(*bounds) for bounds in itertools.pairwise(ends)])
    assert (plan.num_rows, plan.num_bytes, plan.shard_size) == (65_836, 65_836, 256)
    assert [(part.first_row, part.num_rows) for part in plan.parts] == [(0, PART_ROWS), (PART_ROWS, 300)]
    assert {part.key for part in plan.parts} == set(store.objects)
    for part in plan.parts:
        table = read_part(store, part)
        assert table.column_names == ["row", "image_id", "uri", "num_bytes", "etag", "source_row"]
        numbers = list(range(part.first_row, part.first_row + part.num_rows))
        assert table["row"].to_pylist() == numbers
        assert table["image_id"].to_pylist() == [f"{number:06d}.jpg" for number in numbers]


@pytest.mark.parametrize(("limit", "expected"), [(1, 1), (4, 4), (5, 5), (6, 6), (10, 10), (99, 10), (None, 10)])
def test_limit(limit, expected):
    store = MemoryStore()
    plan = write_plan(store, [numbered(0, 5), numbered(5, 10)], limit=limit)
    assert plan.num_rows == expected
    assert read_part(store, plan.parts[0])["row"].to_pylist() == list(range(expected))


def test_a_limit_reads_no_further_than_it_must():
    def tables():
        yield numbered(0, 5)
        yield numbered(5, 10)
        raise AssertionError("read on")

    assert write_plan(MemoryStore(), tables(), limit=7).num_rows == 7


def test_carried_columns_and_unknown_sizes():
    store = MemoryStore()
    carried = [("given_hat", pa.array([1, None], pa.int8())), ("note", pa.array(["x", ""]))]
    plan = write_plan(store, [rows(["a", "b"], None, carried)])
    table = read_part(store, plan.parts[0])
    assert plan.num_bytes == 0
    assert table.schema.field("given_hat").type == pa.int8()
    assert table.select(["given_hat", "note"]).to_pylist() == [
        {"given_hat": 1, "note": "x"},
        {"given_hat": None, "note": ""},
    ]


def test_two_attempts_do_not_share_files():
    store = MemoryStore()
    first, second = (write_plan(store, [numbered(0, 3)]) for _ in range(2))
    assert first.parts[0].key != second.parts[0].key
    assert len(store.objects) == 2


@pytest.mark.parametrize("tables", [[], [numbered(0, 0)]])
def test_nothing_to_plan(tables):
    with pytest.raises(ConfigError, match="no image was found"):
        write_plan(MemoryStore(), tables)


def test_repeats_are_named_with_their_rows_even_over_parts():
    tables = [rows(["b", "a", "b"]), numbered(0, PART_ROWS), rows(["a", "new"])]
    with pytest.raises(ConfigError, match="lists images twice") as error:
        write_plan(MemoryStore(), tables)
    assert f"'b' (rows 0 and 2), 'a' (rows 1 and {3 + PART_ROWS})" in str(error.value)
    assert "more" not in str(error.value)


def test_only_some_of_many_repeats_are_shown():
    with pytest.raises(ConfigError, match=r"'4' \(rows 4 and 11\) and 2 more; rows count from 0"):
        write_plan(MemoryStore(), [rows("0123456"), rows("0123456")])


def test_a_repeat_behind_the_limit_does_not_matter():
    assert write_plan(MemoryStore(), [rows(["a", "b", "a"])], limit=2).num_rows == 2


class WeakHash(RepeatedKeys):
    """Two keys of the same length collide."""

    hash = staticmethod(len)


def test_a_hash_that_merely_collides_is_no_repeat():
    store = MemoryStore()
    with WeakHash() as index:
        keys = pa.chunked_array([["aa", "bb", "c"]])
        index.add(keys)
        assert index.hashes() == {2}
        plan = write_plan(store, [rows(["aa", "bb", "c"])])
        _refuse_repeated(store, plan.parts, index)
        repeated = write_plan(store, [rows(["aa", "bb", "aa"])], unique_by_source=True)
        with pytest.raises(ConfigError, match=r"twice: 'aa' \(rows 0 and 2\);"):
            _refuse_repeated(store, repeated.parts, index)


def test_rows_of_some_shards():
    store = MemoryStore()
    plan = write_plan(store, [numbered(0, 21)], shard_size=8)
    table = read_shards(store, plan, plan.parts[0], np.array([2, 0]))
    assert table["row"].to_pylist() == [*range(8), *range(16, 21)]
    assert len(read_shards(store, plan, plan.parts[0], np.array([], np.int64))) == 0
