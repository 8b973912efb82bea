"""What a training reads of large images: sizes from the footers, windows and tables bounded in bytes."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.packed.reader import open_packed
from faceattr.jobs.search.fill_cache import read_images
from faceattr.jobs.train.stages import IMAGE, POSITION, Epoch, ReadWindow
from faceattr.training.label_survey import decode_surveys, encode_surveys, join_surveys, survey_file
from faceattr.training.row_order import order_rows
from tests.packed_runs import write_packed_run

ATTRIBUTES = AttributeSet(attributes=(Attribute(name="hat"),))
KIB = 2**10


def image(number):
    """Bytes that no other number gives; nobody decodes them here."""
    return np.random.default_rng(number).bytes((1 + number % 5) * 100 * KIB)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Sixty images of 100 to 500 KiB, one of ten rejected, in four files."""
    rows = [{"image": image(number) if number % 10 else None, "hat": number % 2} for number in range(60)]
    uri = write_packed_run(tmp_path_factory.mktemp("packed") / "run", ATTRIBUTES, {"train": rows}, shard_size=16)
    return open_packed([uri], needs=("train",))


@pytest.fixture(scope="module")
def survey(packed):
    files = range(len(packed.splits["train"]))
    found = [survey_file(packed, "train", place, attributes=ATTRIBUTES, balance=())[0] for place in files]
    return join_surveys(found)


GOOD = [number for number in range(60) if number % 10]


def test_the_size_of_the_images_is_known_without_reading_them(survey):
    total = sum(len(image(number)) for number in GOOD)
    assert total <= survey.stretches.num_bytes.sum() < 1.02 * total


def test_a_training_that_began_without_sizes_keeps_its_windows(survey):
    kept = json.loads(encode_surveys({"train": survey}))
    assert np.array_equal(
        decode_surveys(json.dumps(kept).encode())["train"].stretches.num_bytes, survey.stretches.num_bytes
    )
    del kept["train"]["num_bytes"]
    old = decode_surveys(json.dumps(kept).encode())["train"]
    assert old.stretches.num_bytes is None
    (window,) = old.stretches.windows(seed=0, epoch=0, window_rows=60)
    assert len(window.stretches) == len(survey.stretches.num_rows)


def test_tables_of_a_window_are_bounded_in_bytes_and_keep_the_order(packed, survey):
    epoch = Epoch(seed=1, number=2, rank=0, world_size=1)
    read = ReadWindow(
        data=packed, attributes=ATTRIBUTES, survey=survey, balance=(), epoch=epoch, block_rows=8, table_bytes=KIB * KIB
    )
    (window,) = survey.stretches.windows(seed=1, epoch=2, window_rows=60)
    given = pa.Table.from_pylist([{"number": 0, "first_position": 0, "stretches": window.stretches.tolist()}])
    tables = list(read(given))
    whole = list(replace(read, table_bytes=10**9)(given))
    assert max(len(table) for table in whole) == 8
    assert max(sum(map(len, table[IMAGE].to_pylist())) for table in tables) <= KIB * KIB
    assert pa.concat_tables(tables).combine_chunks().equals(pa.concat_tables(whole).combine_chunks())
    found = pa.concat_tables(tables)
    assert found[POSITION].to_pylist() == list(range(len(GOOD)))
    sizes = survey.stretches.num_rows
    starts = np.cumsum(sizes) - sizes
    stretch, row = order_rows(sizes[window.stretches], seed=1, epoch=2, window=0)
    expected = [GOOD[place] for place in (starts[window.stretches[stretch]] + row).tolist()]
    assert found[IMAGE].to_pylist() == [image(number) for number in expected]


def test_the_feature_cache_reads_its_rows_over_row_groups(packed, survey):
    assert list(read_images(packed, "train", survey, 5, 31)) == [image(number) for number in GOOD[5:36]]
    assert list(read_images(packed, "train", survey, 53, 1)) == [image(number) for number in GOOD[53:]]


def test_an_attribute_that_is_not_learnt_can_balance(tmp_path):
    """Eight old and 56 young faces: half of the rows that are drawn are old, though only the hat is learnt."""
    age = Attribute(name="age", kind="age", classes=())
    rows = [
        {"image": b"%d" % n, "hat": n % 2, "age_low": low, "age_high": low + 1.0}
        for n in range(64)
        for low in [70.0 if n % 8 == 0 else 20.0]
    ]
    known = AttributeSet(attributes=(*ATTRIBUTES.attributes, age))
    data = open_packed([write_packed_run(tmp_path / "run", known, {"train": rows}, shard_size=64)], needs=("train",))
    counted, table = survey_file(data, "train", 0, attributes=ATTRIBUTES, balance=("age",))
    assert table.column_names == ["image_id", "group", "hat"]
    assert (counted.cells[2], counted.cells[7], sum(counted.cells)) == (56, 8, 64)
    survey = join_surveys([counted])
    (window,) = survey.stretches.windows(seed=1, epoch=0, window_rows=64)
    given = pa.Table.from_pylist([{"number": 0, "first_position": 0, "stretches": window.stretches.tolist()}])

    def count_old(power):
        read = ReadWindow(
            data=data,
            attributes=ATTRIBUTES,
            survey=survey,
            balance=("age",),
            balance_power=power,
            epoch=Epoch(seed=1, number=0, rank=0, world_size=1),
            block_rows=64,
        )
        (found,) = read(given)
        assert found.column_names == [POSITION, IMAGE, "hat"]
        return sum(int(each) % 8 == 0 for each in found[IMAGE].to_pylist())

    assert 31 <= count_old(1.0) <= 33
    # sqrt(8) : sqrt(56) = 1 : 2.65 of 64 rows.
    assert 16 <= count_old(0.5) <= 19
