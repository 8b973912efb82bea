"""Training views per second and core from 224 px JPEGs, against torchvision's transforms of the same distribution.

Both decode with `decode_image`, crop, flip, and change colours and sharpness by the default augmentation, on one
thread.
They take turns in short rounds; processor time counts, medians over rounds.

    python tests/benchmarks/bench_augment.py --images 256 --rounds 9
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.config.augmentation import Augmentation
from faceattr.data.images.decode import decode_image
from faceattr.models.augment.draws import image_seed
from faceattr.models.augment.train import TrainTransform
from faceattr.models.backbones.preprocessing import Preprocessing
from tests.benchmarks.bench_decode import LIMITS, load_jpegs
from tests.benchmarks.ratios import tell_ratio

SIDE_PX = 224
BLOCK = 16


def build_peer(given: Augmentation) -> v2.Compose:
    """torchvision's transforms with the settings that strength 1 means."""
    color = given.color
    blur = v2.GaussianBlur(SIDE_PX // 10 | 1, sigma=(0.1, 0.1 + 0.01 * SIDE_PX))
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                SIDE_PX, (1 - given.crop, 1.0), (0.85, 1.18), interpolation=v2.InterpolationMode.BICUBIC, antialias=True
            ),
            v2.RandomHorizontalFlip(given.flip),
            v2.ColorJitter(brightness=color, contrast=color, saturation=color, hue=color / 10),
            v2.RandomApply([blur], p=given.blur),
        ]
    )


def decode(data: bytes) -> Tensor:
    return torch.from_numpy(decode_image(data, LIMITS)).permute(2, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    source, jpegs = load_jpegs(given.images)
    seeds = [image_seed(0, epoch=0, row=row) for row in range(len(jpegs))]
    ours = TrainTransform(Preprocessing(size_px=SIDE_PX, mean=(0.5,) * 3, std=(0.5,) * 3), Augmentation())
    theirs = build_peer(Augmentation())

    def view_blocks() -> None:
        for start in range(0, len(jpegs), BLOCK):
            ours([decode(data) for data in jpegs[start : start + BLOCK]], seeds=seeds[start : start + BLOCK])

    ways: dict[str, Callable[[], object]] = {
        "ours": view_blocks,
        "torchvision": lambda: [theirs(decode(data)) for data in jpegs],
        "decoding alone": lambda: [decode(data) for data in jpegs],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, run in ways.items():
            begin = time.process_time()
            run()
            times[name].append(time.process_time() - begin)
    print(f"{len(jpegs)} images from {source}")
    print(f"{'':<16}{'images/s a core':>16}{'ms/image':>10}{'time / ours':>13}")
    for name, each in times.items():
        ratio = statistics.median(its / mine for its, mine in zip(each, times["ours"], strict=True))
        seconds = statistics.median(each) / len(jpegs)
        print(f"{name:<16}{1 / seconds:>16.0f}{1e3 * seconds:>10.2f}{ratio:>13.2f}")
        if name == "torchvision":
            tell_ratio("augment.torchvision", ratio)


if __name__ == "__main__":
    main()
