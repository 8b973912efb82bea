"""Killing what a label run consists of, then looking whether its table is that of an undisturbed run.

Real processes, real signals: `pipelines/label.py` as a user starts it, on a Ray cluster of its own.
"""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg

from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.local import LocalStore
from tests.checkpoints import SIZES, save_random_checkpoint
from tests.faults.nodes import two_nodes
from tests.processes import descendants

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(900)]
NUM_GOOD, NUM_BAD = 4_086, 10
NUM_SHARDS = 16
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory, ray_local):
    """Images (some broken), a random checkpoint, and the table of an undisturbed run."""
    folder = tmp_path_factory.mktemp("world")
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(NUM_GOOD):
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3), np.uint8), np.ones((12, 12, 1), np.uint8))
        (images / f"{number:05d}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels))
    for number in range(NUM_BAD):
        (images / f"bad-{number}.jpg").write_bytes(b"<html>")
    save_random_checkpoint(folder / "model", **SIZES["small"])
    run = Run(folder, "undisturbed")
    label = runpy.run_path(str(ROOT / "pipelines" / "label.py"))["main"]
    assert label([*run.flags(), "--workers.gpus-per-actor", "1"]) == 0
    assert len(run.table()) == NUM_GOOD + NUM_BAD
    return folder, run.table()


class Run:
    """One run folder and the drivers that work on it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.output = folder / name
        self.log_path = folder / f"{name}.log"

    def flags(self, *, max_actors: int = 1) -> list[str]:
        flags = ["--images", str(self.folder / "images"), "--output", str(self.output)]
        flags += [
            "--model",
            str(self.folder / "model"),
            "--workers.block-rows",
            "64",
            "--workers.max-actors",
            str(max_actors),
        ]
        return [*flags, "--ray.no-dashboard", "--ray.object-store-mb", "200"]

    def start(self, *flags: str, max_actors: int = 1, **environment: str) -> subprocess.Popen:
        script = str(ROOT / "pipelines" / "label.py")
        command = [sys.executable, script, *self.flags(max_actors=max_actors), *flags]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})

    def log(self) -> str:
        return self.log_path.read_text()[-4000:]

    def num_committed(self) -> int:
        return len(list((self.output / "labels").glob("shard-*.parquet")))

    def wait_for_commits(self, process: subprocess.Popen, count: int = 1) -> None:
        """Returns as soon as some shards are there and others are not."""
        give_up_at = time.monotonic() + 300
        while self.num_committed() < count:
            assert process.poll() is None, self.log()
            assert time.monotonic() < give_up_at, self.log()
            time.sleep(0.005)
        assert self.num_committed() < NUM_SHARDS

    def table(self) -> pa.Table:
        return pa.concat_tables(read_published(LocalStore(self.output)))


def check_equal(found: pa.Table, expected: pa.Table) -> None:
    """Same rows, none twice, labels equal, scores within what another batch shape may change."""
    assert found["row"].to_pylist() == list(range(NUM_GOOD + NUM_BAD))
    for name in expected.schema.names:
        if name.endswith(("_score", "_mass")):
            np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), atol=1e-5)
        else:
            assert found[name].equals(expected[name]), name


def kill_one(process: subprocess.Popen, pattern: str) -> None:
    """Kills, with -9, one process of the run whose command line holds `pattern`."""
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        matching = [pid for pid, command in descendants(process.pid).items() if pattern in command]
        if matching:
            os.kill(matching[0], signal.SIGKILL)
            return
        assert process.poll() is None
    pytest.fail(f"no process {pattern!r}: {sorted(set(descendants(process.pid).values()))}")


def test_drivers_a_decoder_a_tasks_process_and_an_actor(world):
    """One run whose drivers are refused, terminated, killed; the last one loses a process of each kind on its way."""
    folder, expected = world
    run = Run(folder, "disturbed")
    first = run.start()
    run.wait_for_commits(first)
    first.send_signal(signal.SIGSTOP)  # so that it is alive, and still not done, when the second one looks
    try:
        second = run.start()
        assert second.wait(240) == 1
        assert f"another driver works on this run: process {first.pid}" in run.log()
    finally:
        first.send_signal(signal.SIGCONT)
    first.terminate()
    assert first.wait(120) == 130, run.log()
    assert "whole shards and epochs stay" in run.log()
    committed = {path: path.read_bytes() for path in (run.output / "labels").glob("shard-*")}
    assert committed

    third = run.start()
    run.wait_for_commits(third, len(committed) + 1)
    third.kill()
    third.wait()
    assert read_manifest(LocalStore(run.output)) is None
    committed = {path: path.read_bytes() for path in (run.output / "labels").glob("shard-*")}

    last = run.start()
    run.wait_for_commits(last, len(committed) + 1)
    for pattern in ("faceattr.data.images.decoder_child", "MapBatches(DecodeImages)", "MapBatches(VqaActor)"):
        kill_one(last, pattern)
    assert run.num_committed() < NUM_SHARDS
    assert last.wait(400) == 0, run.log()
    check_equal(run.table(), expected)
    assert {path: path.read_bytes() for path in committed} == committed  # not done again


def test_a_node_of_a_two_node_cluster(world):
    folder, expected = world
    run = Run(folder, "node")
    with two_nodes() as cluster:
        process = run.start("--workers.gpus-per-actor", "1", max_actors=2, RAY_ADDRESS=cluster.address)
        run.wait_for_commits(process)
        cluster.lose_node()
        assert process.wait(400) == 0, run.log()
    check_equal(run.table(), expected)
