"""Reading a block of planned rows: each becomes bytes or a reason, within bounds of memory."""

import os
import tracemalloc

import pyarrow as pa
import pytest

from faceattr.data.images import ImageLimits
from faceattr.data.storage import StorageOptions
from faceattr.jobs.read_stages import ReadImages

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
    read = ReadImages(str(tmp_path), StorageOptions(), ImageLimits(max_bytes=10))
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
    read = ReadImages(str(tmp_path), StorageOptions(), ImageLimits(), table_bytes=3 * MIB, room_bytes=4 * MIB)
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
    read = ReadImages(str(tmp_path), StorageOptions(), ImageLimits())
    (table,) = read(plan_rows(tmp_path, []))
    assert len(table) == 0
    assert {"data", "sha256", "status", "error"} <= set(table.column_names)
