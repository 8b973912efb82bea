"""Images per second of the decoders on 224 px JPEGs, and what isolation costs.

Reads ../shared/fairface if it is there, else draws noise blurred to a photograph's size on disk. The decoders take
turns in short rounds, so that a busy machine slows all of them; ratios are medians over rounds against `decode_image`
in the same round. Processor time counts both processes; read it when others use the machine too.

    python tests/benchmarks/bench_decode.py --images 512 --rounds 15
"""

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import decode_image
from faceattr.data.images.decoder import IsolatedDecoder
from tests.benchmarks.ratios import tell_ratio

FAIRFACE = Path(__file__).resolve().parents[3] / "shared" / "fairface"
LIMITS = ImageLimitsConfig()


def load_jpegs(count: int) -> tuple[str, list[bytes]]:
    """Encoded images and where they are from."""
    paths = sorted(FAIRFACE.glob("train/**/*.jpg"))[:count]
    if paths:
        return str(FAIRFACE), [path.read_bytes() for path in paths]
    rng = np.random.default_rng(0)
    jpegs = []
    for _ in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))
        stream = io.BytesIO()
        noise.resize((224, 224), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=75)
        jpegs.append(stream.getvalue())
    return "generated", jpegs


def decode_with_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return np.array(image.convert("RGB"))


def read_cpu_s(child_pid: int) -> float:
    """Processor seconds of this process and of the child; the number is Linux's clock of another process."""
    return time.process_time() + time.clock_gettime(~child_pid << 3 | 2)


def measure(
    decoders: dict[str, Callable[[list[bytes]], object]], jpegs: list[bytes], rounds: int, child_pid: int
) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, decode in decoders.items():
            begin, begin_cpu = time.perf_counter(), read_cpu_s(child_pid)
            decode(jpegs)
            times[name].append((time.perf_counter() - begin, read_cpu_s(child_pid) - begin_cpu))
    print(f"{'decoder':<26}{'images/s':>10}{'us/image':>10}{'ratio':>8}{'cpu us/image':>14}{'cpu ratio':>11}")
    for name, pairs in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        wall_ratio, cpu_ratio = (
            statistics.median(mine[clock] / its[clock] for mine, its in zip(pairs, times["decode_image"], strict=True))
            for clock in (0, 1)
        )
        us = 1e6 / len(jpegs)
        print(f"{name:<26}{1e6 / (us * wall):>10.0f}{us * wall:>10.1f}{wall_ratio:>8.3f}", end="")
        print(f"{us * cpu:>14.1f}{cpu_ratio:>11.3f}")
        if name == "isolated, batches of 128":
            tell_ratio("decode.isolated.in_place", 1 / wall_ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    source, jpegs = load_jpegs(arguments.images)
    begin = time.perf_counter()
    with IsolatedDecoder(LIMITS) as decoder:
        decoder.decode(jpegs[0])
        assert decoder.child_pid is not None
        print(f"{len(jpegs)} images from {source}, first isolated image after {time.perf_counter() - begin:.2f} s")

        def decode_in_batches(size: int) -> Callable[[list[bytes]], object]:
            return lambda data: [decoder.decode_batch(data[at : at + size]) for at in range(0, len(data), size)]

        measure(
            {
                "decode_image": lambda data: [decode_image(one, LIMITS) for one in data],
                "isolated, one by one": lambda data: [decoder.decode(one) for one in data],
                "isolated, batches of 8": decode_in_batches(8),
                "isolated, batches of 32": decode_in_batches(32),
                "isolated, batches of 128": decode_in_batches(128),
                "Pillow": lambda data: [decode_with_pillow(one) for one in data],
            },
            jpegs,
            arguments.rounds,
            decoder.child_pid,
        )


if __name__ == "__main__":
    main()
