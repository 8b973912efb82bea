"""Reading a block of planned rows: each becomes bytes or a reason, within bounds of memory."""

import tracemalloc

import pyarrow as pa

from faceattr.data.images import ImageLimits
from faceattr.data.storage import StorageOptions
from faceattr.jobs.read_stages import ReadImages


def plan_rows(root, names, *, num_bytes=None):
    """Planned rows of images below a root, of sizes that a manifest does not know."""
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
    rows = read(plan_rows(tmp_path, ["a.jpg", "film.jpg", "none.jpg"]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows["status"].to_pylist() == ["ok", "too_large", "missing"]
    assert rows["data"].to_pylist() == [b"a", None, None]
    assert rows["error"][1].as_py() == "2,147,483,648 bytes, over the limit of 10 (--decode.max-bytes)"
    assert peak < 64 * 2**20  # what is imported on the way counts too
