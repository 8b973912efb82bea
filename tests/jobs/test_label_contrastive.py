"""`pipelines/label.py` with CLIP: a mass column of nulls through publishing, new thresholds and packing."""

import json
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from faceattr.config import StorageConfig
from faceattr.data.runs.version import read_published
from faceattr.data.sources.layouts.published import open_labels
from faceattr.data.sources.options import SourceOptions
from faceattr.data.stores.open import open_store
from faceattr.vqa.contrastive.modules import load_contrastive
from faceattr.vqa.contrastive.preprocess import frame_rgb
from faceattr.vqa.contrastive.reference import PlainContrastive
from tests.contrastive_checkpoints import save_random_clip

pytestmark = [pytest.mark.ray, pytest.mark.long]
label = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "label.py"))["main"]

QUESTIONS = """
attributes:
  hat:
    questions: ["is the person wearing a hat?", "is there a hat?"]
    prompts: {yes: [a hat, a cap], no: [a bare head]}
"""


def test_a_run_by_prompts(ray_local, tmp_path, capsys):
    model = save_random_clip(tmp_path / "model")
    (tmp_path / "questions.yaml").write_text(QUESTIONS)
    (tmp_path / "images").mkdir()
    random = np.random.default_rng(0)
    pixels = {f"{number}.png": random.integers(0, 256, (40, 50, 3), np.uint8) for number in range(6)}
    for name, image in pixels.items():
        Image.fromarray(image).save(tmp_path / "images" / name)
    run = str(tmp_path / "run")
    command = ["--images", str(tmp_path / "images"), "--output", run, "--model", str(model)]
    command += ["--attributes", str(tmp_path / "questions.yaml"), "--workers.max-actors", "1"]
    assert label([*command, "--question-start", "enc"]) == 2
    assert "--question-start: expected cls for a clip model, found enc" in capsys.readouterr().err
    assert label(command) == 0

    rows = {row["image_id"]: row for row in pa.concat_tables(read_published(open_store(run))).to_pylist()}
    checkpoint = load_contrastive(model, attention="eager")
    plain = PlainContrastive(checkpoint, ((("a bare head",), ("a hat", "a cap")),), device="cpu")
    framed = np.stack([frame_rgb(image, checkpoint.preprocessing.framing) for image in pixels.values()])
    for name, log_likelihoods in zip(pixels, plain.score(framed), strict=True):
        assert rows[name]["hat_score"] == pytest.approx(np.exp(log_likelihoods[1]), abs=1e-5)
        assert rows[name]["hat_mass"] is None
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    asked = record["fingerprint"]["questions"]["attributes"]["hat"]
    assert asked["prompts"] == [["a bare head"], ["a hat", "a cap"]]
    report = (tmp_path / "run" / "report.html").read_text()
    assert "yes: a cap" in report
    assert ">none<" in report
    assert label([*command, "--engine", "hf"]) == 2
    assert "engine: there 'packed', here 'hf'" in capsys.readouterr().err

    middle = sorted(row["hat_score"] for row in rows.values())[3]
    (tmp_path / "thresholds.yaml").write_text(f"thresholds: {{hat: {middle}}}\n")
    assert label(["--rethreshold", run, "--thresholds", str(tmp_path / "thresholds.yaml")]) == 0
    packed, rejects = open_labels(run, SourceOptions(), StorageConfig()).read_all()
    assert not rejects.total
    assert sum(packed["hat"].to_pylist()) == 3
    assert packed["hat_mass"].null_count == 6
