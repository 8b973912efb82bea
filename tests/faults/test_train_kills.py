"""Killing what a training consists of, then looking whether its figures equal an undisturbed one's.

Real processes, real signals: `pipelines/train.py` as a user starts it, on a Ray cluster of its own.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faceattr.commands.status import describe_status
from faceattr.data.runs.status import read_run_status
from faceattr.data.stores.open import open_store
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.history import read_history
from tests.faults.nodes import two_nodes
from tests.jobs.train_data import ATTRIBUTES, TINY, write_coloured
from tests.processes import descendants

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
EPOCHS = 6
# Long enough epochs for a kill to land inside one.
NUM_TRAIN, NUM_VAL = 1_600, 64
LEARN = ["--optim.epochs", str(EPOCHS), "--optim.lr", "2e-3", "--feed.batch-size", "16", "--select.patience", "None"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with packed images, and the figures of an undisturbed training."""
    folder = tmp_path_factory.mktemp("world")
    write_coloured(folder / "packed", train=NUM_TRAIN, val=NUM_VAL)
    run = Run(folder, "undisturbed")
    process = run.start()
    assert process.wait(600) == 0, run.log()
    return folder, run.history()


class Run:
    """One model folder and the drivers that work on it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.output = folder / name
        self.packed = folder / "packed"
        self.log_path = folder / f"{name}.log"

    def start(self, *flags: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "pipelines" / "train.py"), "--data", str(self.packed)]
        command += ["--output", str(self.output), *TINY, *LEARN, "--workers.num-workers", "2"]
        command += ["--ray.object-store-mb", "200", *flags]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})

    def log(self) -> str:
        return self.log_path.read_text()[-4000:]

    def history(self):
        return read_history(open_store(str(self.output)))

    def wait_for_epochs(self, process: subprocess.Popen, count: int) -> None:
        """Returns as soon as some epochs are done and others are not."""
        give_up_at = time.monotonic() + 400
        while len(self.history()) < count:
            assert process.poll() is None, self.log()
            assert time.monotonic() < give_up_at, self.log()
            time.sleep(0.01)
        assert len(self.history()) < EPOCHS

    def check(self, expected) -> None:
        """The curve of the undisturbed training, and a model."""
        found = self.history()
        assert [record["epoch"] for record in found] == [float(epoch) for epoch in range(EPOCHS)]
        for record, wanted in zip(found, expected, strict=True):
            kept = {name: value for name, value in wanted.items() if name.startswith(("train/", "val/", "lr"))}
            assert {name: record[name] for name in kept} == pytest.approx(kept, rel=2e-2, abs=5e-3, nan_ok=True)
        model = MultiAttributeModel.from_pretrained(self.output)
        assert (model.attributes, model.unfinished) == (ATTRIBUTES, None)


def test_a_driver_that_is_killed_and_one_that_is_refused(world):
    folder, expected = world
    run = Run(folder, "driver")
    first = run.start()
    # Early, while workers start: they would go on without their driver, so that there is no stopping it to gain time.
    while not (run.output / "_lease").exists():
        assert first.poll() is None, run.log()
        time.sleep(0.01)
    assert run.start().wait(240) == 1
    assert f"another driver works on this run: process {first.pid}" in run.log()
    run.wait_for_epochs(first, 2)
    first.kill()
    first.wait()
    done = len(run.history())
    assert 2 <= done < EPOCHS
    # The best model so far can be used, and says what it is.
    model = MultiAttributeModel.from_pretrained(run.output)
    assert model.unfinished is not None
    assert 1 <= model.unfinished.epoch <= done + 1  # published before the figures of its epoch
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    status = describe_status("run", read_run_status(open_store(str(run.output))))
    assert f"model      unfinished: the best so far, of epoch {model.unfinished.epoch} of {EPOCHS}" in status
    before = run.history()

    assert run.start().wait(600) == 0, run.log()
    assert run.history()[:done] == before  # not done again
    run.check(expected)


def test_one_of_two_workers(world):
    folder, expected = world
    run = Run(folder, "worker")
    process = run.start()
    run.wait_for_epochs(process, 2)
    workers = [pid for pid, command in descendants(process.pid).items() if "ray::RayTrainWorker" in command]
    assert len(workers) == 2, sorted(set(descendants(process.pid).values()))
    os.kill(workers[1], signal.SIGKILL)
    assert process.wait(600) == 0, run.log()
    run.check(expected)


def test_a_node_of_a_two_node_cluster(world):
    folder, expected = world
    run = Run(folder, "node")
    with two_nodes() as cluster:
        # More CPUs than half a node has, so that each node gets one worker; one is enough to go on.
        flags = ("--workers.cpus-per-worker", "1.2", "--workers.min-workers", "1")
        process = run.start(*flags, RAY_ADDRESS=cluster.address)
        run.wait_for_epochs(process, 2)
        cluster.lose_node()
        assert process.wait(600) == 0, run.log()
    run.check(expected)
