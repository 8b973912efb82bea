"""A label run of many rows through Ray Data: all of `pipelines/label.py` but the model, which answers at once."""

import os
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

from faceattr.config import LabelConfig
from faceattr.config.shared import RayConfig
from faceattr.data.runs.version import read_manifest
from faceattr.jobs.cluster.session import ActorLayout
from faceattr.jobs.images import label
from faceattr.jobs.images.actors.label_actor import VqaActor
from faceattr.jobs.images.command import run_images
from tests.benchmarks.label_memory import MemoryPeak
from tests.benchmarks.label_scaling import SleepingScorer

_FILE_ROWS = 100_000
_SIZE_PX = 32


class FreeLabelJob(label.LabelJob):
    """A label job whose model costs nothing."""

    def actor(self, actors: ActorLayout, schema: pa.Schema) -> tuple[type, dict[str, Any]]:
        """See `ImageJob`."""
        return VqaActor, {"build_scorer": SleepingScorer(0.0), "questions": self.questions, "schema": schema}


def write_images(folder: Path, num_rows: int) -> Path:
    """Parquet files of small JPEGs with their names; 200 different ones, since only their number matters here."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    shape = (_SIZE_PX, _SIZE_PX, 3)
    encoded = [simplejpeg.encode_jpeg(rng.integers(0, 256, shape, np.uint8), quality=60) for _ in range(200)]
    for first in range(0, num_rows, _FILE_ROWS):
        rows = range(first, min(first + _FILE_ROWS, num_rows))
        table = pa.table({"path": [f"{row:09d}.jpg" for row in rows], "image": [encoded[row % 200] for row in rows]})
        pq.write_table(table, folder / f"part-{first // _FILE_ROWS:04d}.parquet", row_group_size=4_096)
    return folder


def run_through_ray(folder: Path, num_rows: int) -> None:
    """Labels so many rows, publishes, and prints how long it took and the memory of the driver and of all."""
    images = write_images(folder / f"images-{num_rows}", num_rows)
    output = folder / f"run-{num_rows}"
    config = LabelConfig(
        images=str(images),
        bytes_column="image",
        output=str(output),
        model="tiny",
        ray=RayConfig(dashboard=False),
    )
    given = label.prepare_label_job(config)
    job = FreeLabelJob(**{each.name: getattr(given, each.name) for each in fields(given)})
    peak = MemoryPeak(os.getpid())
    peak.start()
    started = time.perf_counter()
    run_images(job, publish=label.publish_labels, summarise=label.summarise_labels)
    seconds = time.perf_counter() - started
    peak.done.set()
    peak.join()
    manifest = read_manifest(job.output)
    if manifest is None or manifest.num_rows != num_rows:
        raise SystemExit(f"expected {num_rows:,} published rows, found {manifest and manifest.num_rows}")
    print(
        f"{num_rows:,} rows through Ray Data: {seconds:.0f} s, {num_rows / seconds:,.0f} rows/s; peak memory of the "
        f"driver {peak.driver_bytes / 1e6:.0f} MB, of all processes {peak.total_bytes / 1e6:,.0f} MB",
        flush=True,
    )
