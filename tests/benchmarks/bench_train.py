"""Benchmarks of `pipelines/train.py`. Figures are ratios against a peer in one interleaved run.

python tests/benchmarks/bench_train.py rates      # images/s and data wait against a plain torch and DataLoader loop
python tests/benchmarks/bench_train.py memory     # peak memory at 2,000 and at 20,000 images
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import simplejpeg
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.attributes import Attribute, AttributeSet
from tests.benchmarks.label_memory import MemoryPeak
from tests.benchmarks.ratios import tell_ratio
from tests.packed_runs import write_packed_run

ROOT = Path(__file__).parents[2]
ATTRIBUTES = AttributeSet(attributes=tuple(Attribute(name=name) for name in ("hat", "glasses", "facial_hair")))
# Validation is not compared.
NUM_VAL = 64


def make_images(folder: Path, count: int, size_px: int) -> Path:
    """The same images as files with labels, and packed; a few hundred different ones."""
    folder.mkdir()
    (folder / "files").mkdir()
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(min(count, 300)):
        coarse = rng.integers(0, 256, (size_px // 16, size_px // 16, 3), np.uint8)
        encoded.append(simplejpeg.encode_jpeg(np.kron(coarse, np.ones((16, 16, 1), np.uint8)), quality=85))
    labels = rng.integers(0, 2, (count, 3))
    rows = [
        {"image": encoded[number % len(encoded)], **dict(zip(ATTRIBUTES.names, labels[number].tolist(), strict=True))}
        for number in range(count)
    ]
    for number, row in enumerate(rows):
        (folder / "files" / f"{number:06d}.jpg").write_bytes(row["image"])
    torch.save(torch.from_numpy(labels).float(), folder / "files" / "labels.pt")
    write_packed_run(folder / "packed", ATTRIBUTES, {"train": rows, "val": rows[:NUM_VAL]})
    return folder


def start_train(data: Path, output: Path, given: argparse.Namespace, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "pipelines" / "train.py"), "--data", str(data), "--output", str(output)]
    command += ["--model.backbone", given.backbone, "--model.no-pretrained", "--model.image-size", str(given.size)]
    command += ["--feed.batch-size", str(given.batch), "--optim.epochs", str(given.epochs), "--ray.no-dashboard"]
    command += ["--workers.num-workers", str(workers), "--ray.object-store-mb", "400", "--select.patience", "None"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(output.parent / "train.log").open("ab"))


def finish(process: subprocess.Popen[bytes], output: Path) -> list[dict[str, float]]:
    """Records of all epochs but the first, in which processes start."""
    if process.wait():
        sys.exit((output.parent / "train.log").read_text()[-3000:])
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()][1:]


def plain_rates(files: Path, given: argparse.Namespace, workers: int, port: int) -> list[float]:
    command = [sys.executable, str(ROOT / "tests" / "benchmarks" / "plain_train.py"), str(files)]
    command += ["--backbone", given.backbone, "--size", str(given.size), "--workers", str(workers)]
    command += ["--epochs", str(given.epochs), "--batch", str(given.batch), "--port", str(port)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def bench_rates(given: argparse.Namespace) -> None:
    """Prints images/s of both, their ratio, and the share of time that ours waits for data."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_images(Path(scratch) / "images", given.images, given.stored)
        for workers in given.workers:
            ratios, waits = [], []
            for number in range(given.rounds):
                plain = statistics.median(plain_rates(folder / "files", given, workers, 29_511 + number))
                output = Path(scratch) / f"model-{workers}-{number}"
                records = finish(start_train(folder / "packed", output, given, workers), output)
                ours = statistics.median(record["images_per_s"] for record in records)
                wait = statistics.median(record["data_wait_share"] for record in records)
                ratios.append(ours / plain)
                waits.append(wait)
                print(
                    f"{workers} workers, round {number + 1}: plain {plain:7.1f} images/s, ours {ours:7.1f}, ratio "
                    f"{ours / plain:.3f}, data wait {wait:.1%}",
                    flush=True,
                )
            print(f"{workers} workers: ratio {statistics.median(ratios):.3f}, wait {statistics.median(waits):.1%}")
            tell_ratio(f"train.{workers}_workers.plain_torch", statistics.median(ratios))


def bench_memory(given: argparse.Namespace) -> None:
    """Prints the peaks at two sizes of data."""
    given.epochs = 2
    peaks = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in given.sizes:
            folder = make_images(Path(scratch) / f"images{count}", count, given.stored)
            output = Path(scratch) / f"model{count}"
            process = start_train(folder / "packed", output, given, 1)
            peak = MemoryPeak(process.pid)
            peak.start()
            finish(process, output)
            peak.done.set()
            peaks[count] = peak.total_bytes
            print(
                f"{count:6} images: {peak.total_bytes / 1e6:7.0f} MB in all, driver {peak.driver_bytes / 1e6:.0f} MB",
                flush=True,
            )
    first, *_, last = given.sizes
    print(f"growth from {first:,} to {last:,} images: {peaks[last] / peaks[first] - 1:+.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rates", "memory"))
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=96, help="side that the network sees, px")
    parser.add_argument("--stored", type=int, default=224, help="side of the stored images, px")
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    {"rates": bench_rates, "memory": bench_memory}[given.what](given)


if __name__ == "__main__":
    main()
