"""Reading a block of planned rows: each becomes bytes or a reason, within bounds of memory."""

import os
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.jobs.images.read import ReadImages, cut_at_row_groups

MIB = 2**20


def plan_rows(root, names, *, num_bytes=None):
    """Planned rows of images below a root, by default of sizes that nobody knows, as a manifest's are."""
    return pa.table(
        {
            "row": pa.array(range(len(names)), pa.int64()),
            "image_id": pa.array(names, pa.string()),
            "uri": pa.array([f"{root}/{name}" for name in names], pa.string()),
            "num_bytes": pa.array(num_bytes or [None] * len(names), pa.int64()),
            "source_row": pa.nulls(len(names), pa.int64()),
        }
    )


def test_a_huge_object_behind_a_manifest_is_a_row_and_is_not_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    with (tmp_path / "film.jpg").open("wb") as file:
        file.truncate(2**31)
    read = ReadImages(str(tmp_path), StorageConfig(), ImageLimitsConfig(max_bytes=10))
    tracemalloc.start()
    rows = pa.concat_tables(read(plan_rows(tmp_path, ["a.jpg", "film.jpg", "none.jpg"])))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows["status"].to_pylist() == ["ok", "too_large", "missing"]
    assert rows["data"].to_pylist() == [b"a", None, None]
    assert rows["error"][1].as_py() == "2,147,483,648 bytes, over the limit of 10 (--decode.max-bytes)"
    assert peak < 64 * MIB  # what is imported on the way counts too


@pytest.mark.parametrize("known", [True, False])
def test_a_block_of_large_images_is_passed_on_in_tables_of_a_few_bytes(tmp_path, known):
    names = [f"{number:02}.jpg" for number in range(40)]
    for name in names:
        (tmp_path / name).write_bytes(os.urandom(MIB))
    (tmp_path / "05.jpg").unlink()
    read = ReadImages(str(tmp_path), StorageConfig(), ImageLimitsConfig(), table_bytes=3 * MIB, room_bytes=4 * MIB)
    rows = plan_rows(tmp_path, names, num_bytes=[MIB] * 40 if known else None)
    next(iter(read(rows)))  # what is imported on the way
    tracemalloc.start()
    lengths, ids, status = [], [], []
    for table in read(rows):
        lengths.append(len(table))
        ids += table["image_id"].to_pylist()
        status += table["status"].to_pylist()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ids == names
    assert [name for name, value in zip(names, status, strict=True) if value != "ok"] == ["05.jpg"]
    assert lengths == [3, 4, *[3] * 11]
    assert peak < 12 * MIB


def test_a_block_without_rows_has_the_columns_of_others(tmp_path):
    read = ReadImages(str(tmp_path), StorageConfig(), ImageLimitsConfig())
    (table,) = read(plan_rows(tmp_path, []))
    assert len(table) == 0
    assert {"data", "sha256", "status", "error"} <= set(table.column_names)


def packed_rows(files):
    """Planned rows of packed files: (uri, number of rows)."""
    uris = [uri for uri, count in files for _ in range(count)]
    numbers = [row for _, count in files for row in range(count)]
    ids = [f"{uri}#{row}" for uri, row in zip(uris, numbers, strict=True)]
    return pa.table({"image_id": ids, "uri": uris, "num_bytes": pa.nulls(len(ids), pa.int64()), "source_row": numbers})


def test_rows_of_packed_input_are_cut_at_row_groups_and_small_ones_stay_together(tmp_path):
    large, small = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")
    pq.write_table(pa.table({"image": [b"a"] * 250}), large, row_group_size=100)
    pq.write_table(pa.table({"image": [b"b"] * 25}), small, row_group_size=10)
    rows = packed_rows([(large, 250), (small, 25)])
    units = list(cut_at_row_groups(rows.filter(pa.array([row != 3 for row in range(275)])), StorageConfig(), 20))
    assert [len(unit) for unit in units] == [99, 100, 50, 20, 5]
    assert pa.concat_tables(units)["image_id"].to_pylist() == [
        each for each in rows["image_id"].to_pylist() if each != f"{large}#3"
    ]


def test_packed_rows_in_any_order_keep_their_own_image(tmp_path):
    """As the packed run of a shuffled split asks for them."""
    uris = [str(tmp_path / name) for name in ("a.parquet", "b.parquet")]
    for uri in uris:
        pq.write_table(pa.table({"image": [f"{uri}#{row}".encode() for row in range(40)]}), uri, row_group_size=9)
    rows = packed_rows([(uri, 40) for uri in uris])
    mixed = rows.take(pa.array([(place * 37) % 80 for place in range(80)]))
    read = ReadImages(str(tmp_path), StorageConfig(), ImageLimitsConfig(), bytes_column="image", table_bytes=200)
    tables = list(read(mixed))
    found = pa.concat_tables(tables)
    assert len(tables) > 10
    assert sorted(found["image_id"].to_pylist()) == sorted(rows["image_id"].to_pylist())
    assert [value.decode() for value in found["data"].to_pylist()] == found["image_id"].to_pylist()
