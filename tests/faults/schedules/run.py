"""`make faults`: runs random schedules of faults for a time; every result must be that of an undisturbed run.

    python -m tests.faults.schedules.run --job label --minutes 20 --seed 0
    python -m tests.faults.schedules.run --job label --seed 17 --count 1     # one schedule again

The seeds are consecutive numbers from `--seed` on.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.conftest import pytest_unconfigure
from tests.faults.schedules.disturb import BrokenRunError, Schedule
from tests.faults.schedules.draw import draw_schedule
from tests.faults.schedules.job import Job
from tests.faults.schedules.learning import SEARCH, TRAIN
from tests.faults.schedules.tables import LABEL, PACK, PREDICT
from tests.faults.schedules.world import World, open_world

JOBS = {job.name: job for job in (LABEL, PREDICT, PACK, TRAIN, SEARCH)}


def main(words: list[str]) -> int:
    """Runs schedules; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.schedules.run")
    parser.add_argument("--job", choices=list(JOBS), default="label")
    parser.add_argument("--minutes", type=float, default=10.0, help="no schedule begins later")
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule")
    parser.add_argument("--count", type=int, help="schedules at most")
    given = parser.parse_args(words)
    job = JOBS[given.job]
    failed: list[int] = []
    num_done = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, open_world(Path(folder)) as world:
        job.prepare(world)
        expected = run_undisturbed(world, job)
        until = time.monotonic() + 60 * given.minutes
        while time.monotonic() < until and num_done != given.count:
            seed = given.seed + num_done
            if not run_schedule(world, job, seed, expected):
                failed.append(seed)
            num_done += 1
    seeds = f"{given.seed} to {given.seed + num_done - 1}" if num_done else "none"
    print(f"faults done: job={job.name} schedules={num_done} seeds={seeds} failed={failed or 'none'}", flush=True)
    return int(bool(failed))


def run_undisturbed(world: World, job: Job) -> Any:
    """What every schedule has to end with."""
    store = world.store("undisturbed")
    # Ray gives a node 30 s to start, which a busy machine may miss; the next driver goes on.
    if all(job.start(world, world.uri("undisturbed"), store=store).wait(600) != 0 for _ in range(3)):
        raise SystemExit(job.log_path(world, "undisturbed").read_text()[-4000:])
    return job.read(store)


def run_schedule(world: World, job: Job, seed: int, expected: Any) -> bool:
    """Runs one schedule, prints what was done when, and returns whether the result is whole."""
    began = time.monotonic()

    def tell(what: str) -> None:
        print(f"  {time.monotonic() - began:6.1f} s  {what}", flush=True)

    schedule = draw_schedule(seed, num_parts=job.num_parts, processes=job.processes)
    print(f"schedule job={job.name} seed={seed} disturbances={len(schedule)}", flush=True)
    prefix = f"{job.name}-{seed}"
    try:
        Schedule(world, job, prefix, expected, tell).run(schedule)
        fault = job.find_fault(world.store(prefix), expected)
    except BrokenRunError as error:
        fault = str(error)
    if fault is None:
        tell("whole")
        return True
    print(f"FAILED job={job.name} seed={seed}: {fault}", flush=True)
    print(f"repeat it: python -m tests.faults.schedules.run --job {job.name} --seed {seed} --count 1", flush=True)
    print(job.log_path(world, prefix).read_text()[-3000:], flush=True)
    return False


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    finally:
        pytest_unconfigure()
    sys.exit(code)
