"""Benchmarks of the whole label run. Figures are ratios against a peer in one interleaved run; see docs/benchmarks.md.

python tests/benchmarks/bench_label.py rates      # against a bare loop, and against the Ray Data script one would write
python tests/benchmarks/bench_label.py memory     # peak memory at 2,000 and at 20,000 images
python tests/benchmarks/bench_label.py resume     # seconds to the first images of a run with 1,000,000 committed rows
python tests/benchmarks/bench_label.py scaling    # 1, 2, 4, 8 actors with a scorer that sleeps
python tests/benchmarks/bench_label.py overlap    # one actor against its scorer alone, which sleeps, and calls in turn
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.label_memory import bench_memory
from tests.benchmarks.label_rates import SIZES, bench_rates
from tests.benchmarks.label_resume import bench_resume
from tests.benchmarks.label_scaling import bench_scaling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rates", "memory", "resume", "scaling", "overlap"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--size", choices=SIZES, default="half", help="of the model, for rates: blip-vqa-base, or half")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--milliseconds", type=float, default=20.0)
    given = parser.parse_args()
    match given.what:
        case "rates":
            bench_rates(size=given.size, num_images=given.images, rounds=given.rounds, cores=given.cores)
        case "memory":
            bench_memory()
        case "resume":
            bench_resume(num_rows=given.rows, rounds=given.rounds)
        case "scaling":
            bench_scaling(milliseconds=given.milliseconds)
        case "overlap":
            # Not above: `rates` starts processes that import this file, and its bare loop is to be bare.
            from tests.benchmarks.label_overlap import bench_overlap

            bench_overlap(rounds=given.rounds)


if __name__ == "__main__":
    main()
