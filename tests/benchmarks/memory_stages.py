"""Peak memory of single stages, each in a process of its own without Ray; `bench_memory.py stages` runs them.

It imports the package alone, so that it also runs with the one of another checkout, whose stages may give one table
where today's give many.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.packed.reader import open_packed
from faceattr.jobs.images.decode import DecodeImages, Resizer
from faceattr.jobs.images.read import ReadImages

MB = 1_000_000
ATTRIBUTES = AttributeSet(attributes=(Attribute(name="hat"),))
NUM_RUNS = 4
Stage = Callable[[], pa.Table | Iterator[pa.Table]]


def plan_rows(uris: list[str], source_rows: Iterable[int] | None = None) -> pa.Table:
    """Planned rows of unknown sizes."""
    return pa.table(
        {
            "image_id": uris,
            "uri": uris,
            "num_bytes": pa.nulls(len(uris), pa.int64()),
            "etag": pa.nulls(len(uris), pa.string()),
            "source_row": pa.nulls(len(uris), pa.int64()) if source_rows is None else pa.array(source_rows, pa.int64()),
        }
    )


def read_photos(scratch: Path) -> Stage:
    """128 files of 6 MB."""
    for number in range(128):
        (scratch / f"{number:03}.jpg").write_bytes(os.urandom(6 * MB))
    read = ReadImages(str(scratch), StorageConfig(), ImageLimitsConfig())
    return lambda: read(plan_rows([str(path) for path in sorted(scratch.iterdir())]))


def read_packed(scratch: Path) -> Stage:
    """256 of 1,000 images in one row group, 46 MB."""
    path = scratch / "faces.parquet"
    writer = pq.ParquetWriter(path, pa.schema([("image", pa.binary())]))
    with writer:
        writer.write_table(pa.table({"image": [os.urandom(46_000) for _ in range(1_000)]}), row_group_size=1_000)
    read = ReadImages(str(scratch), StorageConfig(), ImageLimitsConfig(), "image")
    return lambda: read(plan_rows([str(path)] * 256, range(256)))


def decode_plain(scratch: Path) -> Stage:
    """8 PNG of one colour: 20 megapixels in 60 KB."""
    buffer = io.BytesIO()
    Image.new("RGB", (5_000, 4_000), "gray").save(buffer, "PNG")
    data = pa.array([buffer.getvalue()] * 8, pa.large_binary())
    rows = pa.table({"data": data, "status": ["ok"] * 8, "error": pa.nulls(8, pa.string())})
    return lambda: DecodeImages(ImageLimitsConfig(), 60.0, Resizer("memory_stages:crop", 224, 224))(rows)


def crop(image: np.ndarray, side: int) -> np.ndarray:
    """The corner of an image: resizing is not what is measured."""
    return image[:side, :side].copy()


def read_window(scratch: Path) -> Stage:
    """The first window of an epoch over 1,900 images of 411 KB, which `bench_memory.py` has packed there."""
    from faceattr.jobs.train.stages import Epoch, ReadWindow
    from faceattr.training import label_survey as survey
    from faceattr.training import row_order as order

    data = open_packed([str(scratch / f"run{number}") for number in range(NUM_RUNS)], needs=("train",))
    files = range(len(data.splits["train"]))
    found = [survey.survey_file(data, "train", place, attributes=ATTRIBUTES, balance=())[0] for place in files]
    joined = survey.join_surveys(found)
    if hasattr(joined.stretches, "windows"):
        windows = joined.stretches.windows(seed=0, epoch=0, window_rows=8_192)
    else:
        windows = order.cut_windows(joined.stretches.num_rows, seed=0, epoch=0, window_rows=8_192)
    epoch = Epoch(seed=0, number=0, rank=0, world_size=1)
    read = ReadWindow(data=data, attributes=ATTRIBUTES, survey=joined, balance=(), epoch=epoch, block_rows=128)
    first = windows[0]
    given = {"number": 0, "first_position": 0, "stretches": first.stretches.tolist()}
    return lambda: read(pa.Table.from_pylist([given]))


STAGES: dict[str, Callable[[Path], Stage]] = {
    "read_photos": read_photos,
    "read_packed": read_packed,
    "decode_plain": decode_plain,
    "read_window": read_window,
}


def memory_mb(key: str) -> float:
    """A size of this process by the system's count, MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / MB


def main() -> None:
    stage, scratch = STAGES[sys.argv[1]], Path(sys.argv[2])
    run = stage(scratch)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, started = memory_mb("VmRSS"), time.perf_counter()
    num_rows, first_s = 0, 0.0
    made = run()
    for table in [made] if isinstance(made, pa.Table) else made:
        num_rows += len(table)
        first_s = first_s or time.perf_counter() - started
        del table
    print(
        f"{sys.argv[1]:12} {num_rows:5} rows  {before:5.0f} -> {memory_mb('VmHWM'):5.0f} MB  "
        f"first rows after {first_s:5.1f} s of {time.perf_counter() - started:.1f}  ({stage.__doc__})"
    )


if __name__ == "__main__":
    main()
