"""Keys that stand twice, found in memory and on disk alike."""

import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

from faceattr.data.formats.repeated_keys import RepeatedKeys


def column(keys):
    return pa.chunked_array([pa.array(keys, pa.string())])


def repeated(index, keys):
    hashes = index.hashes()
    return {key for key in keys if index.hash(key) in hashes}


def folders():
    return set(Path(tempfile.gettempdir()).glob("faceattr-keys-*"))


@pytest.mark.parametrize("max_in_memory", [0, 10, 99, 10_000])
def test_repeats_are_found_however_little_is_held(max_in_memory):
    before = folders()
    batches = [[f"{number}.jpg" for number in range(start, start + 50)] for start in range(0, 500, 50)]
    batches[3][7] = "0.jpg"  # across batches
    batches[9][1] = batches[9][0] = "twice.jpg"  # inside one
    batches[8][0] = batches[5][0] = batches[2][0]  # three times
    with RepeatedKeys(max_in_memory) as index:
        for batch in batches:
            index.add(column(batch))
        found = repeated(index, [key for batch in batches for key in batch])
        assert bool(folders() - before) == (max_in_memory < 500)
    assert found == {"0.jpg", "twice.jpg", "100.jpg"}
    assert folders() == before


@pytest.mark.parametrize("max_in_memory", [0, 10_000])
def test_keys_that_only_look_alike(max_in_memory):
    keys = ["a", "A", "a ", "a/", "á", "a\u0301", "", "aa"]
    with RepeatedKeys(max_in_memory) as index:
        index.add(column(keys))
        assert repeated(index, keys) == set()


def test_no_keys():
    with RepeatedKeys() as index:
        assert index.hashes() == frozenset()
        index.add(column([]))
        assert index.hashes() == frozenset()


def test_files_are_gone_after_an_error():
    before = folders()

    def fail():
        with RepeatedKeys(0) as index:
            index.add(column(["a"]))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert folders() == before
