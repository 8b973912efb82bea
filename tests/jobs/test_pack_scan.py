"""What a packed run's rows are judged by before they are cut into shards."""

import itertools

import pyarrow as pa
import pytest

from faceattr.jobs.pack.scan import take_sample


@pytest.mark.parametrize("lengths", [[5], [64], [65], [1_000, 3, 4_000], [10] * 700])
def test_the_sample_comes_from_everywhere(lengths):
    """The first images may be thumbnails, and the rest photos that would make shards of gigabytes."""
    count = sum(lengths)
    starts = [sum(lengths[:place]) for place in range(len(lengths))]
    tables = [pa.table({"n": range(start, start + length)}) for start, length in zip(starts, lengths, strict=True)]
    sample = take_sample(tables)
    found = sample["n"].to_pylist()
    assert sample["row"].to_pylist() == list(range(len(found)))
    assert found == sorted(set(found))
    assert len(found) == min(64, count)
    gaps = [after - before for before, after in itertools.pairwise(found)]
    assert not gaps or max(gaps) <= 2 * count / len(found) + 1
    assert found[0] == 0
    assert found[-1] >= count - 1 - 2 * count / len(found)


def test_a_sample_of_nothing_is_empty():
    assert len(take_sample([pa.table({"n": pa.array([], pa.int64())})])) == 0
