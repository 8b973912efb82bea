"""Whether the default split of the cores between network and decoders is as fast as the best that is set by hand.

python tests/benchmarks/bench_cores.py     # a small and a large network; ratio of ours to the best set by hand

Each split is `pipelines/train.py` with --workers.threads and --feed.max-decoders; the last line of a network is the
median over the rounds of default / best. Splits take turns, since a machine's speed drifts.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.bench_train import finish, make_images

ROOT = Path(__file__).parents[2]
# Name -> backbone, side in pixels, images.
NETWORKS = {"small": ("test_resnet", 64, 4_000), "large": ("resnet18", 128, 320)}
DEFAULT: tuple[int, int] | None = None


def measure(data: Path, output: Path, network: str, split: tuple[int, int] | None, epochs: int) -> float:
    """Images/s of a training, without its first epoch."""
    backbone, side, _ = NETWORKS[network]
    command = [sys.executable, str(ROOT / "pipelines" / "train.py"), "--data", str(data), "--output", str(output)]
    command += ["--model.backbone", backbone, "--model.no-pretrained", "--model.image-size", str(side)]
    command += ["--optim.epochs", str(epochs), "--ray.no-dashboard", "--ray.object-store-mb", "400"]
    command += ["--select.patience", "None"]
    if split is not None:
        command += ["--workers.threads", str(split[0]), "--feed.max-decoders", str(split[1])]
    with (output.parent / "train.log").open("ab") as log:
        records = finish(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log), output)
    return statistics.median(record["images_per_s"] for record in records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--threads", type=int, nargs="+", default=list(range(1, (os.cpu_count() or 1) + 1)))
    parser.add_argument("--decoders", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--stored", type=int, default=224, help="side of the stored images, px")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    splits: list[tuple[int, int] | None] = [DEFAULT, *itertools.product(given.threads, given.decoders)]
    with tempfile.TemporaryDirectory() as scratch:
        for network in given.networks:
            folder = make_images(Path(scratch) / network, NETWORKS[network][2], given.stored)
            ratios = []
            for number in range(given.rounds):
                rates = {}
                for place, split in enumerate(splits):
                    output = Path(scratch) / f"{network}-{number}-{place}"
                    rates[split] = measure(folder / "packed", output, network, split, given.epochs)
                    name = "default" if split is None else "{} threads, {} decoders".format(*split)
                    print(f"{network}, round {number + 1}, {name}: {rates[split]:.1f} images/s", flush=True)
                ratios.append(rates[DEFAULT] / max(rate for split, rate in rates.items() if split is not DEFAULT))
            print(f"{network}: default / best by hand {statistics.median(ratios):.3f}", flush=True)


if __name__ == "__main__":
    main()
