"""Peak memory of each kind of worker over large images: it follows from a bound of bytes, not from the photos.

python tests/benchmarks/bench_memory.py folder                # a folder of 12-megapixel JPEGs, 6 MB each, is labelled
python tests/benchmarks/bench_memory.py packed                # a Parquet file with one row group is labelled
python tests/benchmarks/bench_memory.py training              # an epoch over packed images of 411 KB
python tests/benchmarks/bench_memory.py stages                # single stages, without Ray, in seconds
python tests/benchmarks/bench_memory.py folder --code DIR     # the same with another checkout, such as an older one

Of each process below the command the peak of its own memory (anonymous pages) and of all it has mapped, the object
store's pages among them. The issue's bound is 1 GiB a worker.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.attributes import Attribute, AttributeSet
from tests.benchmarks.label_runs import ROOT, SMALL
from tests.benchmarks.memory_stages import ATTRIBUTES, NUM_RUNS, STAGES
from tests.checkpoints import save_random_checkpoint
from tests.packed_runs import write_packed_run

MB = 1_000_000


class WorkerPeaks(threading.Thread):
    """Peaks of the processes below one, by what they are called."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self.done = pid, threading.Event()
        self.private: dict[str, int] = defaultdict(int)
        self.mapped: dict[str, int] = defaultdict(int)

    def run(self) -> None:
        while not self.done.wait(0.1):
            for pid in _tree(self._pid):
                name, private, mapped = _look(pid)
                self.private[name] = max(self.private[name], private)
                self.mapped[name] = max(self.mapped[name], mapped)


def _tree(pid: int) -> set[int]:
    found, pending = set(), [pid]
    while pending:
        each = pending.pop()
        found.add(each)
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                pending += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _look(pid: int) -> tuple[str, int, int]:
    """What a process is called, its anonymous memory, and all that it has mapped, bytes."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
    except OSError:
        return "gone", 0, 0
    name = next((name for name in ("decoder_child", "raylet", "gcs_server", "pipelines/") if name in words), "")
    ray = re.match(r"ray::(\S+)", words)
    sizes = [int(status.get(key, "0").split()[0]) * 1024 for key in ("RssAnon", "VmRSS")]
    return (ray[1] if ray else name or "other"), sizes[0], sizes[1]


def run_pipeline(code: Path, script: str, *flags: str) -> None:
    """Runs a pipeline of a checkout as a user does, and prints what its processes took."""
    started = time.monotonic()
    command = [sys.executable, str(code / "pipelines" / script), "--ray.no-dashboard", "--ray.object-store-mb", "1500"]
    with tempfile.TemporaryFile() as log:
        environment = {**os.environ, "PYTHONPATH": str(code)}
        process = subprocess.Popen([*command, *flags], cwd=code, env=environment, stdout=log, stderr=log)
        peaks = WorkerPeaks(process.pid)
        peaks.start()
        failed = process.wait()
        peaks.done.set()
        if failed:
            log.seek(0)
            sys.exit(log.read().decode(errors="replace")[-3000:])
    print(f"{script} took {time.monotonic() - started:.0f} s")
    for name in sorted(peaks.private, key=lambda name: -peaks.private[name]):
        if peaks.private[name] > 100 * MB:
            print(
                f"  {name:40} {peaks.private[name] / MB:7.0f} MB of its own, {peaks.mapped[name] / MB:7.0f} MB mapped"
            )


def noisy_jpeg(seed: int, width: int, height: int, num_bytes: int) -> bytes:
    """A JPEG of about a size: noise over blocks, more of it until the file is large enough."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(
        rng.integers(0, 256, (height // 50 + 1, width // 50 + 1, 3), np.uint8), np.ones((50, 50, 1), np.uint8)
    )
    noise = rng.normal(size=(height, width, 1)).astype(np.float32)
    data = b""
    for strength in (2, 4, 6, 8, 12, 16, 24, 32, 48):
        pixels = np.clip(blocks[:height, :width] + strength * noise, 0, 255).astype(np.uint8)
        data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=92)
        if len(data) >= num_bytes:
            break
    return data


def bench_folder(code: Path, scratch: Path, count: int) -> None:
    photos = scratch / "photos"
    photos.mkdir()
    encoded = [noisy_jpeg(seed, 4_000, 3_000, 6 * MB) for seed in range(4)]
    for number in range(count):
        # Another end makes another file; decoders stop before it.
        (photos / f"{number:04}.jpg").write_bytes(encoded[number % 4] + b"%d" % number)
    print(f"{count} photos of 12 megapixels, {sum(map(len, encoded)) / 4 / MB:.1f} MB each")
    label(code, scratch, photos)


def bench_packed(code: Path, scratch: Path, count: int) -> None:
    encoded = [noisy_jpeg(seed, 448, 448, 46_000) for seed in range(20)]
    path = scratch / "faces.parquet"
    images = [encoded[number % 20] + b"%d" % number for number in range(count)]
    pq.write_table(pa.table({"image": images}), path, row_group_size=count)
    print(f"{count} packed images in one row group, {path.stat().st_size / MB:.0f} MB")
    label(code, scratch, path)


def label(code: Path, scratch: Path, images: Path) -> None:
    model = save_random_checkpoint(scratch / "model", **SMALL)
    given = ["--images", str(images), "--model", str(model), "--output", str(scratch / "labels")]
    run_pipeline(code, "label.py", *given, "--workers.max-actors", "1", "--workers.block-rows", "256")


def bench_training(code: Path, scratch: Path, count: int) -> None:
    encoded = [noisy_jpeg(seed, 1_024, 768, 411_000) for seed in range(8)]
    attributes = AttributeSet(attributes=(Attribute(name="hat"),))
    runs = []
    for start in range(0, count, 400):
        rows = [
            {"image": encoded[number % 8] + b"%d" % number, "hat": number % 2, "image_id": f"{number}.jpg"}
            for number in range(start, min(start + 400, count))
        ]
        splits = {"train": rows[16:], "val": rows[:16]}
        runs.append(
            write_packed_run(scratch / f"packed{start}", attributes, splits, shard_size=128, fingerprint={"n": start})
        )
    print(f"{count} packed images of {sum(map(len, encoded)) / 8 / 1000:.0f} KB, one epoch")
    tiny = ["--model.backbone", "test_vit", "--model.no-pretrained", "--model.image-size", "32", "--optim.epochs", "1"]
    run_pipeline(code, "train.py", "--data", *runs, "--output", str(scratch / "model"), *tiny)


def bench_stages(code: Path, scratch: Path) -> None:
    rng = np.random.default_rng(0)
    for run in range(NUM_RUNS):
        rows = [
            {"image": rng.bytes(411_000), "hat": number % 2, "image_id": f"{run}-{number}.jpg"} for number in range(475)
        ]
        write_packed_run(scratch / f"run{run}", ATTRIBUTES, {"train": rows}, shard_size=128, fingerprint={"n": run})
    script = Path(__file__).with_name("memory_stages.py")
    for stage in STAGES:
        with tempfile.TemporaryDirectory() as empty:
            place = scratch if stage == "read_window" else empty
            environment = {**os.environ, "PYTHONPATH": str(code)}
            subprocess.run([sys.executable, str(script), stage, str(place)], env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("folder", "packed", "training", "stages"))
    parser.add_argument("--code", type=Path, default=ROOT, help="checkout whose pipelines run")
    parser.add_argument("--count", type=int, help="images; by default 160 photos, 1,000 packed ones, 1,900 to train on")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        match given.what:
            case "stages":
                bench_stages(given.code, Path(folder))
            case "folder":
                bench_folder(given.code, Path(folder), given.count or 160)
            case "packed":
                bench_packed(given.code, Path(folder), given.count or 1_000)
            case "training":
                bench_training(given.code, Path(folder), given.count or 1_900)


if __name__ == "__main__":
    main()
