"""Shuffled rows: all of them, in an order that follows from content and seed alone, copies side by side."""

import itertools

import numpy as np
import pyarrow as pa

from faceattr.data.packed.shuffle import ShuffledRows

SCHEMA = pa.schema([("image_id", pa.string()), ("sha256", pa.string()), ("hat", pa.int8())])


def table(numbers):
    return pa.table(
        [
            [f"{n}.jpg" for n in numbers],
            [None if n % 5 == 0 else f"{n // 2:064x}" for n in numbers],
            [n % 2 for n in numbers],
        ],
        schema=SCHEMA,
    )


def shuffled(tables, seed=0, section="train"):
    with ShuffledRows(SCHEMA, seed) as rows:
        for each in tables:
            rows.add(section, each)
        return pa.concat_tables([SCHEMA.empty_table(), *rows.buckets(section)])


def test_every_row_once_in_an_order_that_does_not_depend_on_the_source():
    numbers = np.arange(1_000)
    one = shuffled([table(numbers)])
    assert sorted(one.to_pylist(), key=str) == sorted(table(numbers).to_pylist(), key=str)
    assert one["image_id"].to_pylist() != table(numbers)["image_id"].to_pylist()
    other = np.random.default_rng(0).permutation(numbers)
    assert shuffled([table(other[:300]), table(other[300:])]).equals(one)
    assert not shuffled([table(numbers)], seed=1).equals(one)
    # A shuffle spreads what stood together: neighbours are about a third of the range apart (mean 333).
    gaps = np.abs(np.diff([int(name.removesuffix(".jpg")) for name in one["image_id"].to_pylist()]))
    assert gaps.mean() > 200


def test_copies_stand_side_by_side():
    contents = [each for each in shuffled([table(np.arange(1_000))])["sha256"].to_pylist() if each is not None]
    runs = 1 + sum(first != second for first, second in itertools.pairwise(contents))
    assert runs == len(set(contents))


def test_sections_are_apart(monkeypatch):
    monkeypatch.setattr("faceattr.data.packed.shuffle._SPILL_ROWS", 7)  # so that a section is spilled many times
    with ShuffledRows(SCHEMA, 0) as rows:
        for start in range(0, 100, 10):
            rows.add("train", table(range(start, start + 6)))
            rows.add("val", table(range(start + 6, start + 10)))
        found = {name: pa.concat_tables(rows.buckets(name))["image_id"].to_pylist() for name in ("train", "val")}
        assert list(rows.buckets("test")) == []
    assert sorted(found["train"]) == sorted(f"{n}.jpg" for n in range(100) if n % 10 < 6)
    assert sorted(found["val"]) == sorted(f"{n}.jpg" for n in range(100) if n % 10 >= 6)


def test_nothing_is_left_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ShuffledRows(SCHEMA, 0) as rows:
        rows.add("train", table(range(70_000)))
        assert any(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
