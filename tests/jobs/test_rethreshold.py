"""A run labelled again by other thresholds, on real Ray: a retry keeps them, and its report gets pictures."""

import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from faceattr.commands.status import describe_status
from faceattr.data.runs.status import read_run_status
from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.local import LocalStore
from tests.checkpoints import SIZES, save_random_checkpoint
from tests.jobs.train_data import png

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
label = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "label.py"))["main"]
QUESTIONS = """
attributes:
  hat: {questions: ["is the person wearing a hat?"]}
  glasses: {questions: ["is the person wearing glasses?"]}
derived:
  bare: not (hat or glasses)
"""


def read_rows(store):
    return {row["image_id"]: row for row in pa.concat_tables(read_published(store)).to_pylist()}


def test_a_retry_labels_by_the_thresholds_of_the_version_that_it_continues(tmp_path, ray_local, capsys):
    save_random_checkpoint(tmp_path / "model", **SIZES["small"])
    (tmp_path / "questions.yaml").write_text(QUESTIONS)
    rng = np.random.default_rng(0)
    images = {f"{row:02}.png": png(rng.integers(0, 256, (24, 24, 3), np.uint8)) for row in range(10)}
    (tmp_path / "images").mkdir()
    for name, data in images.items():
        (tmp_path / "images" / name).write_bytes(data)
    for name in ("cut.png", "text.png"):
        (tmp_path / "images" / name).write_bytes(b"not yet here")
    command = [
        *("--images", str(tmp_path / "images"), "--output", str(tmp_path / "run"), "--max-error-share", "0.5"),
        *("--model", str(tmp_path / "model"), "--attributes", str(tmp_path / "questions.yaml")),
        *("--workers.max-actors", "1", "--workers.gpus-per-actor", "1", "--ray.no-dashboard"),
    ]
    assert label(command) == 0
    store = LocalStore(tmp_path / "run")
    first = read_rows(store)
    assert b"data:image/jpeg" not in store.get("report.html")
    assert label([*command, "--thumbnails"]) == 0
    assert "nothing to do: this run is finished" in capsys.readouterr().out
    assert store.get("report.html").count(b"data:image/jpeg") == 2 * 3 * 10
    assert read_manifest(store).version == 1

    # A threshold that turns the label of this image around, and with it that of its copy.
    score = first["03.png"]["hat_score"]
    cut = (score + 1) / 2 if score >= 0.5 else score / 2
    (tmp_path / "t.yaml").write_text(f"thresholds: {{hat: {cut!r}}}\n")
    assert label(["--rethreshold", str(tmp_path / "run"), "--thresholds", str(tmp_path / "t.yaml")]) == 0
    told = describe_status("run", read_run_status(store))
    assert f"\nversion    2, labelled again from its scores: hat {cut:.3f}\n" in told
    second = read_rows(store)
    assert second["03.png"]["hat"] == 1 - first["03.png"]["hat"]

    (tmp_path / "images" / "cut.png").write_bytes(images["03.png"])
    assert label([*command, "--retry-failed"]) == 0
    third = read_rows(store)
    manifest = read_manifest(store)
    assert manifest.version == 3
    assert manifest.decisions == {"hat": {"threshold": cut, "abstain": None}}
    assert manifest.status_counts == {"not_an_image": 1, "ok": 11}
    assert {name: third[name] for name in images} == {name: second[name] for name in images}
    mended, twin = third["cut.png"], third["03.png"]
    for name in ("hat", "hat_score", "glasses", "glasses_score", "bare"):
        assert mended[name] == pytest.approx(twin[name], abs=2e-5), name
    for row in (each for each in third.values() if each["status"] == "ok"):
        assert row["hat"] == int(row["hat_score"] >= cut)
        assert row["glasses"] == int(row["glasses_score"] >= 0.5)
        assert row["bare"] == int(not (row["hat"] or row["glasses"]))
    # Nothing is left that a second retry could do, but for the image that is still none.
    assert label([*command, "--retry-failed"]) == 0
    assert read_rows(store) == third
