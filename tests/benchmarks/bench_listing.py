"""A listing in 16 streams against one page after the other, for several ways in which keys are called.

A page takes `--latency-s`, as in a remote store, and holds 20 keys, so that few keys stand for many pages. Measured are
the speed-up and the requests beyond one a page; the processor time of reading a page is not in it.

python tests/benchmarks/bench_listing.py
"""

import argparse
import hashlib
import random
import sys
import time
from bisect import bisect_right
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.data.stores.listing.segments import Page, list_in_segments
from faceattr.data.stores.store import ObjectInfo
from tests.benchmarks.ratios import tell_ratio

PAGE_KEYS = 20


def _hash(number: int) -> str:
    return hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()


def make_keys(num_keys: int) -> dict[str, list[str]]:
    draw = random.Random(1)
    names = [
        f"{first}_{last}" for first in ("anna", "bert", "carl", "dora", "zoe") for last in ("li", "jones", "smith")
    ]
    return {
        "numbers": [f"faces/img_{number:08d}.jpg" for number in range(num_keys)],
        "hashes": [f"{_hash(number)}.jpg" for number in range(num_keys)],
        "users": [f"user/{_hash(number // 10)}/{number % 10}.jpg" for number in range(num_keys)],
        "dates": [f"{2000 + n // 4000}/{n % 12 + 1:02d}/cam-{n % 7}/{n}.jpg" for n in range(num_keys)],
        "folders": [f"n{folder:04d}/{n:05d}.png" for folder in range(num_keys // 500) for n in range(500)],
        "names": [f"{draw.choice(names)}/{number}.jpg" for number in range(num_keys)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--latency-s", type=float, default=0.05)
    given = parser.parse_args()
    print(f"{'keys':10}{'pages':>7}{'requests':>10}{'speed-up':>10}")
    for name, unsorted in make_keys(given.keys).items():
        keys, requests = sorted(unsorted), []

        def fetch(after: str, token: str | None, keys: list[str] = keys, requests: list[str] = requests) -> Page:
            requests.append(after)
            time.sleep(given.latency_s)
            start = int(token) if token is not None else bisect_right(keys, after)
            end = start + PAGE_KEYS
            entries = [ObjectInfo(key=key, num_bytes=1, etag=None, modified_s=0.0) for key in keys[start:end]]
            return Page(entries=entries, token=str(end) if end < len(keys) else None)

        began = time.monotonic()
        found = [entry.key for entry in list_in_segments(fetch, streams=given.streams)]
        seconds = time.monotonic() - began
        if found != keys:
            sys.exit(f"{name}: the listing is not the keys")
        pages = len(keys) // PAGE_KEYS
        print(f"{name:10}{pages:7}{len(requests) / pages:9.2f}x{pages * given.latency_s / seconds:9.1f}x", flush=True)
        tell_ratio(f"listing.{name}.one_stream", pages * given.latency_s / seconds)


if __name__ == "__main__":
    main()
