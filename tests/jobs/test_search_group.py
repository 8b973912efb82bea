"""Trials with several workers of their own, as a user runs them: by the script, with the dashboard that they need."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from tests.jobs.train_data import ATTRIBUTES, SIZE, coloured_row
from tests.packed_runs import write_packed_run

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
SPACE = """
loss.main: hat
optim.epochs: 3
optim.clip_norm: null
augment.strength: 0
freeze.depth: all
optim.lr: {choice: [3e-2, 1e-9]}
"""


@pytest.fixture
def search(tmp_path):
    """Runs a search with a number of workers a trial; gives its exit code, and what it said."""
    rng = np.random.default_rng(0)
    rows = {split: [coloured_row(rng) for _ in range(num)] for split, num in (("train", 70), ("val", 40), ("test", 30))}
    packed = write_packed_run(tmp_path / "packed", ATTRIBUTES, rows, shard_size=16)
    (tmp_path / "space.yaml").write_text(SPACE)
    settings = ["model.backbone=test_vit", "model.pretrained=false", f"model.image_size={SIZE}", "feed.batch_size=16"]

    def run(num_workers: int, *flags: str) -> tuple[int, str]:
        command = [
            sys.executable,
            str(ROOT / "tune" / "search.py"),
            "--data",
            packed,
            "--output",
            str(tmp_path / "out"),
        ]
        command += ["--space", str(tmp_path / "space.yaml"), "--set", *settings, f"workers.num_workers={num_workers}"]
        command += ["--trials.stack", "off", "--ray.num-cpus", "2", "--ray.object-store-mb", "200", *flags]
        found = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600
        )
        return found.returncode, found.stdout

    return run


def test_one_trial_at_a_time_finds_room_and_a_stopped_one_gives_it_back(search, ray_local, tmp_path):
    # `ray_local` is a second Ray on this machine, as another user's would be.
    # This seed draws two good rates, one that learns nothing, and a good one, which needs the room of the third.
    code, said = search(2, "--algorithm", "random", "--seed", "6", "--num-samples", "4", "--stop.reduction", "2")
    assert code == 0, said[-4000:]
    trials = pq.read_table(tmp_path / "out" / "trials.parquet").sort_by("trial").to_pylist()
    assert [trial["status"] for trial in trials] == ["finished", "finished", "stopped", "finished"]
    assert [trial["num_epochs"] for trial in trials] == [3, 3, 2, 3]
    assert yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())["workers"]["num_workers"] == 2
    assert (tmp_path / "out" / "best" / "model.safetensors").exists()


def test_a_group_without_room_is_refused(search, tmp_path):
    code, said = search(9, "--num-samples", "1")
    assert code == 2, said[-4000:]
    assert "--trials.cpus 1: a trial with its workers and decoding claims 5.5 CPUs, the cluster has 2" in said
    assert not list((tmp_path / "out").glob("trials/*/record.json"))
