"""The same bucket tomorrow, on real Ray, from local files and from an S3 server; then rows that are deleted."""

import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from faceattr.cli import main as faceattr
from faceattr.config import StorageConfig
from faceattr.data.runs.verification import verify_published
from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.open import open_store
from tests.checkpoints import SIZES, save_random_checkpoint
from tests.jobs.train_data import png

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
label = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "label.py"))["main"]
QUESTIONS = 'attributes:\n  hat: {questions: ["is the person wearing a hat?"]}\n'


def rows_of(uri: str) -> dict[str, dict]:
    rows = pa.concat_tables(read_published(open_store(uri))).to_pylist()
    named = {row["image_id"]: row for row in rows}
    assert len(named) == len(rows)
    return named


def same(first: dict[str, dict], second: dict[str, dict]) -> bool:
    """Whether two tables say the same of the same images; scores up to the rounding of other batches."""
    return first.keys() == second.keys() and all(
        row["sha256"] == second[name]["sha256"]
        and row["status"] == second[name]["status"]
        and row["hat_score"] == pytest.approx(second[name]["hat_score"], abs=2e-5)
        for name, row in first.items()
    )


@pytest.mark.parametrize("place", ["local", "s3"])
def test_a_bucket_that_changes_and_rows_that_are_deleted(place, tmp_path, s3_uri, ray_local, capsys):
    root = str(tmp_path) if place == "local" else s3_uri
    save_random_checkpoint(tmp_path / "model", **SIZES["small"])
    (tmp_path / "questions.yaml").write_text(QUESTIONS)
    rng = np.random.default_rng(0)
    pictures = [png(rng.integers(0, 256, (24, 24, 3), np.uint8)) for _ in range(16)]
    images = open_store(f"{root}/raw")
    for number in range(10):
        images.put(f"{number}.png", pictures[number])

    def command(output: str, *more: str) -> list[str]:
        return [
            *("--images", f"{root}/raw", "--output", f"{root}/{output}", "--model", str(tmp_path / "model")),
            *("--attributes", str(tmp_path / "questions.yaml"), "--workers.max-actors", "1"),
            *("--workers.gpus-per-actor", "1", "--ray.no-dashboard", *more),
        ]

    run = f"{root}/run"
    assert label(command("run", "--update")) == 0
    assert "published version 1: 10 rows" in capsys.readouterr().out
    assert label(command("run", "--update")) == 0
    assert "nothing to do: no image is new, changed or gone" in capsys.readouterr().out

    images.delete("2.png")
    images.put("5.png", pictures[10])
    for number in range(11, 14):
        images.put(f"{number}.png", pictures[number])
    assert label(command("run", "--update")) == 0
    out = capsys.readouterr().out
    assert "update  3 images new, 1 changed, 1 gone, 8 as they were" in out
    assert label(command("fresh")) == 0
    second = rows_of(run)
    assert same(second, rows_of(f"{root}/fresh"))
    assert verify_published(open_store(run), StorageConfig()).problems == ()

    # By a threshold of the run, the new rows are labelled too.
    cut = (second["13.png"]["hat_score"] + 1) / 2
    (tmp_path / "t.yaml").write_text(f"thresholds: {{hat: {cut!r}}}\n")
    assert label(["--rethreshold", run, "--thresholds", str(tmp_path / "t.yaml")]) == 0
    images.put("14.png", pictures[14])
    assert label(command("run", "--update")) == 0
    third = rows_of(run)
    assert len(third) == 13
    assert all(row["hat"] == int(row["hat_score"] >= cut) for row in third.values())

    (tmp_path / "ids.txt").write_text("0.png\n14.png\n")
    assert faceattr(["delete-rows", run, "--ids", str(tmp_path / "ids.txt")]) == 0
    assert rows_of(run) == {name: row for name, row in third.items() if name not in ("0.png", "14.png")}
    images.put("15.png", b"no image")
    assert label(command("run", "--update", "--max-error-share", "0.5")) == 0
    assert "1 images new, 0 changed, 0 gone, 11 as they were, 2 withheld" in capsys.readouterr().out
    images.put("15.png", pictures[15])
    assert label(command("run", "--retry-failed")) == 0
    last = rows_of(run)
    assert set(last) == {*third, "15.png"} - {"0.png", "14.png"}
    assert {row["status"] for row in last.values()} == {"ok"}
    assert read_manifest(open_store(run)).version == 7
    assert verify_published(open_store(run), StorageConfig()).problems == ()
    # Other settings are refused as on any resume.
    (tmp_path / "questions.yaml").write_text(QUESTIONS.replace("a hat", "a cap"))
    assert label(command("run", "--update")) == 2
    assert "holds a run with other settings" in capsys.readouterr().err
