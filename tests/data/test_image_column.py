"""Images in a column of Parquet files: the right ones, read once and a few at a time."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.inputs.image_column import ImageColumn, read_row_groups
from faceattr.errors import ImageError, RunError, StorageError

MIB = 2**20
STORAGE = StorageConfig()
HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def image(number):
    return f"image {number}".encode() * (1 + number % 7)


def write(path, kind, count, **options):
    values = [image(number) if number % 10 != 9 else None for number in range(count)]
    if pa.types.is_struct(kind):
        values = [value if value is None else {"bytes": value, "path": "a.jpg"} for value in values]
    table = pa.table({"n": range(count), "image": pa.array(values, kind)})
    pq.write_table(table, path, **options)
    return str(path)


def bytes_read():
    """Bytes that this process has read so far, by the system's count."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"])


@pytest.mark.parametrize("kept_bytes", [0, MIB], ids=["streamed", "kept"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), HUGGING_FACE], ids=str)
def test_rows_of_any_row_group_come_in_order(tmp_path, kind, kept_bytes):
    uri = write(tmp_path / "a.parquet", kind, 500, row_group_size=150)
    column = ImageColumn(uri=uri, name="image", storage=STORAGE, batch_bytes=500, kept_bytes=kept_bytes)
    rows = [0, 1, 7, 9, 148, 149, 150, 310, 444, 449, 499]
    found = list(column.read(rows, ImageLimitsConfig()))
    for row, value in zip(rows, found, strict=True):
        if row % 10 == 9:
            assert isinstance(value, ImageError)
            assert value.reason == "missing"
        else:
            assert value == image(row)


def test_an_image_over_the_limit_is_a_reason_among_the_others(tmp_path):
    pq.write_table(pa.table({"image": [b"1", b"22222", b"3"]}), tmp_path / "a.parquet")
    for kept_bytes in (0, MIB):
        column = ImageColumn(
            uri=str(tmp_path / "a.parquet"), name="image", storage=STORAGE, batch_bytes=1, kept_bytes=kept_bytes
        )
        one, large, three = column.read([0, 1, 2], ImageLimitsConfig(max_bytes=4))
        assert (one, three) == (b"1", b"3")
        assert isinstance(large, ImageError)
        assert str(large) == "too_large: 5 bytes, over the limit of 4 (--decode.max-bytes)"


def test_a_file_with_one_row_group_is_read_once_and_a_few_images_are_in_memory(tmp_path):
    images = [os.urandom(MIB // 4) for _ in range(160)]
    path = tmp_path / "a.parquet"
    # Pages of 1 MB, as most writers make them; a page is the least that can be read.
    pq.write_table(pa.table({"image": images}), path, compression="none", write_batch_size=4)
    assert pq.read_metadata(path).num_row_groups == 1
    column = ImageColumn(uri=str(path), name="image", storage=STORAGE, batch_bytes=MIB)
    before = bytes_read()
    pool, usual = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        for number, found in enumerate(column.read(range(160), ImageLimitsConfig())):
            assert found == images[number]
    finally:
        pa.set_memory_pool(usual)
    assert bytes_read() - before < 1.2 * path.stat().st_size
    assert 0 < pool.max_memory() < 16 * MIB
    before = bytes_read()
    (first,) = column.read([0], ImageLimitsConfig())
    assert first == images[0]
    assert bytes_read() - before < path.stat().st_size / 4


def test_row_groups_are_known_from_the_footer(tmp_path):
    uri = write(tmp_path / "a.parquet", pa.binary(), 25, row_group_size=10)
    found = [(group.number, group.first_row, group.num_rows) for group in read_row_groups(uri, STORAGE)]
    assert found == [(0, 0, 10), (1, 10, 10), (2, 20, 5)]


def test_a_damaged_file_and_a_lost_one_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(RunError, match=r"a\.parquet is damaged"):
        list(ImageColumn(uri=str(path), name="image", storage=STORAGE).read([0], ImageLimitsConfig()))
    with pytest.raises(StorageError, match=r"b\.parquet"):
        list(ImageColumn(uri=str(tmp_path / "b.parquet"), name="image", storage=STORAGE).read([0], ImageLimitsConfig()))
