"""Killing the driver of a search, then looking whether it resumes where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.jobs.train_data import ATTRIBUTES, SIZE, coloured_row
from tests.packed_runs import write_packed_run

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
SPACE = """
loss.main: hat
optim.epochs: 6
augment.strength: 0
freeze.depth: {choice: [all, 2]}
optim.lr: {loguniform: [1e-3, 3e-2]}
"""


def start(folder, *flags):
    command = [sys.executable, str(ROOT / "tune" / "search.py"), *flags, "--ray.no-dashboard"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([*command, "--ray.object-store-mb", "200"], stdout=log, stderr=log)


def records(folder):
    return {path.parent.name: path.read_bytes() for path in (folder / "out").glob("trials/*/record.json")}


def test_a_killed_driver(tmp_path):
    rng = np.random.default_rng(0)
    rows = {split: [coloured_row(rng) for _ in range(num)] for split, num in (("train", 70), ("val", 40), ("test", 30))}
    packed = write_packed_run(tmp_path / "packed", ATTRIBUTES, rows, shard_size=16)
    (tmp_path / "space.yaml").write_text(SPACE)
    settings = ["model.backbone=test_vit", "model.pretrained=false", f"model.image_size={SIZE}", "feed.batch_size=16"]
    flags = ["--data", packed, "--output", str(tmp_path / "out"), "--space", str(tmp_path / "space.yaml")]
    flags += ["--num-samples", "6", "--set", *settings, "--trials.checkpoint-s", "0.01"]
    first = start(tmp_path, *flags)
    give_up_at = time.monotonic() + 300
    while len(records(tmp_path)) < 2:
        assert first.poll() is None, (tmp_path / "log").read_text()[-3000:]
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = records(tmp_path)
    begun = {path.parent.name: path.read_bytes() for path in (tmp_path / "out").glob("trials/*/trial.json")}
    assert len(before) < 6
    assert not (tmp_path / "out" / "best.yaml").exists()

    again = start(tmp_path, "--resume", str(tmp_path / "out"))
    assert again.wait(400) == 0, (tmp_path / "log").read_text()[-3000:]
    after = records(tmp_path)
    assert sorted(after) == [f"t{number:04d}" for number in range(6)]
    assert {name: after[name] for name in before} == before  # not trained again
    for name, data in begun.items():
        assert json.loads(after[name])["values"] == json.loads(data)["values"]
    assert (tmp_path / "out" / "best" / "model.safetensors").exists()
    assert not list((tmp_path / "out").rglob("*.pkl"))
