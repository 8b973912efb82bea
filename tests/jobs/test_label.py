"""`pipelines/label.py` end to end on real Ray and a real S3 server; expected labels from the plain HF path."""

import csv
import io
import json
import os
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceattr.cli import main as faceattr
from faceattr.config import LabelConfig
from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.open import open_store
from faceattr.jobs.images import run as image_run
from faceattr.jobs.images.label import prepare_label_job
from faceattr.vqa.blip.oracle.modules import load_hf_blip
from faceattr.vqa.blip.oracle.reference import HfScorer
from faceattr.vqa.blip.preprocess import resize_rgb
from faceattr.vqa.questions import VqaQuestion
from tests.checkpoints import SIZES, save_random_checkpoint

pytestmark = [pytest.mark.ray, pytest.mark.slow]
label = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "label.py"))["main"]

QUESTIONS = """
attributes:
  hat:
    questions:
      - is the person wearing a hat?
      - text: does the person have hair?
        inverted: true
  color:
    questions: ["what color is the hair?"]
    answers: [black, brown, gray]
derived:
  label: not hat
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A checkpoint, questions, and 30 images as PNG, some of them broken."""
    folder = tmp_path_factory.mktemp("given")
    save_random_checkpoint(folder / "model", **SIZES["small"])
    (folder / "questions.yaml").write_text(QUESTIONS)
    rng = np.random.default_rng(7)
    pixels = {}
    for number in range(30):
        image = np.kron(rng.integers(0, 256, (3, 4, 3), np.uint8), np.ones((11, 9, 1), np.uint8))
        pixels[f"{'abc'[number % 3]}/{number:02d}.png"] = image
    images = {name: _png(image) for name, image in pixels.items()}
    broken = {"c/html.JPG": b"<!DOCTYPE html>", "c/empty.png": b"", "a/cut.png": next(iter(images.values()))[:-40]}
    return (
        folder,
        pixels,
        {**images, **broken},
        {"c/html.JPG": "not_an_image", "c/empty.png": "empty", "a/cut.png": "truncated"},
    )


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def flags(folder: Path, *more: str) -> list[str]:
    fixed = ["--model", str(folder / "model"), "--attributes", str(folder / "questions.yaml")]
    return [*fixed, "--workers.max-actors", "1", "--workers.gpus-per-actor", "1", *more]


def expected_rows(folder: Path, pixels: dict[str, np.ndarray]) -> dict[str, dict]:
    """Labels by the plain transformers path and arithmetic written out: P(yes) of the mean of two log-odds."""
    checkpoint = load_hf_blip(str(folder / "model"))
    hat, hair, color = (
        VqaQuestion("is the person wearing a hat?", ("no", "yes")),
        VqaQuestion("does the person have hair?", ("no", "yes")),
        VqaQuestion("what color is the hair?", ("black", "brown", "gray")),
    )
    size = checkpoint.size_px
    batch = np.stack([resize_rgb(image, size) for image in pixels.values()])
    scores = HfScorer(checkpoint, [hat, hair, color], device="cpu").score(batch).astype(np.float64)
    rows = {}
    for name, (hat_no, hat_yes, hair_no, hair_yes, *colors) in zip(pixels, scores.tolist(), strict=True):
        odds = ((hat_yes - hat_no) + (hair_no - hair_yes)) / 2
        score = 1 / (1 + np.exp(-odds))
        weights = np.exp(colors) / np.exp(colors).sum()
        rows[name] = {
            "hat": int(score >= 0.5),
            "hat_score": score,
            "hat_mass": np.sqrt((np.exp(hat_no) + np.exp(hat_yes)) * (np.exp(hair_no) + np.exp(hair_yes))),
            "color": int(np.argmax(colors)),
            "color_score": weights,
            "label": 1 - int(score >= 0.5),
        }
    return rows


def check_rows(table: pa.Table, given) -> None:
    folder, pixels, images, reasons = given
    expected = expected_rows(folder, pixels)
    rows = {row["image_id"]: row for row in table.to_pylist()}
    assert sorted(rows) == sorted(images)
    assert len(table) == len(images)
    for name, values in expected.items():
        row = rows[name]
        assert (row["status"], row["error"]) == ("ok", None)
        assert (row["height_px"], row["width_px"]) == pixels[name].shape[:2]
        assert {key: row[key] for key in ("hat", "color", "label")} == {k: values[k] for k in ("hat", "color", "label")}
        for key in ("hat_score", "hat_mass", "color_score"):
            np.testing.assert_allclose(row[key], values[key], atol=2e-5)
    for name, reason in reasons.items():
        assert rows[name]["status"] == reason
        assert rows[name]["error"]
        assert [rows[name][key] for key in ("hat", "hat_score", "hat_mass", "color", "color_score", "label")] == [
            None
        ] * 6


def test_a_prefix_on_s3(given, s3_uri, ray_local, capsys, tmp_path):
    folder, _, images, _ = given
    store = open_store(f"{s3_uri}/raw")
    for name, data in images.items():
        store.put(name, data)
    store.put("notes.txt", b"no image")
    command = [
        "--images",
        f"{s3_uri}/raw/",
        "--output",
        f"{s3_uri}/run",
        *flags(folder, "--max-error-share", "0.2"),
    ]
    assert label([*command, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "33 below" in shown
    assert "advice " in shown
    assert "Nothing was written" in shown
    assert list(open_store(f"{s3_uri}/run").list()) == []

    assert label(command) == 0
    run = open_store(f"{s3_uri}/run")
    check_rows(pa.concat_tables(read_published(run)), given)
    shown = capsys.readouterr()
    assert "labelled 30, rejected 3" in shown.out
    assert "33/33 (100.0%)" in shown.err
    assert b"Label run" in run.get("report.html")
    assert b"yes from 0.5<" in run.get("report.html")

    before = {entry.key: entry.etag for entry in run.list()}
    assert label(command) == 0
    assert "nothing to do: this run is finished" in capsys.readouterr().out
    assert label([*command, "--dry-run", "--retry-failed"]) == 0
    assert "there      33 of 33 rows, 3 of them rejected; only these 3 will be done" in capsys.readouterr().out
    lease = {key for key in before if key.startswith("_lease/")}
    after = {entry.key: entry.etag for entry in run.list()}
    assert {k: v for k, v in after.items() if not k.startswith("_lease/")} == {
        k: before[k] for k in before if k not in lease
    }

    other = [word if word != str(folder / "questions.yaml") else "celeba4" for word in flags(folder)]
    assert label(["--images", f"{s3_uri}/raw/", "--output", f"{s3_uri}/run", *other]) == 2
    assert "attributes.color" in capsys.readouterr().err

    # Nothing that was written or shown holds the secret.
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    for entry in run.list():
        assert secret not in run.get(entry.key), entry.key
    assert secret.decode() not in shown.err + shown.out

    # The broken ones are mended and done again, into a second version.
    mended = next(iter(images.values()))
    store.put("c/empty.png", mended)
    assert label([*command, "--retry-failed"]) == 0
    rows = {row["image_id"]: row for row in pa.concat_tables(read_published(run)).to_pylist()}
    twin = rows[next(iter(images))]
    assert rows["c/empty.png"]["status"] == "ok"
    assert rows["c/empty.png"]["hat"] == twin["hat"]
    assert rows["c/html.JPG"]["status"] == "not_an_image"
    manifest = read_manifest(run)
    assert manifest.version == 2
    assert manifest.status_counts == {"not_an_image": 1, "ok": 31, "truncated": 1}

    assert faceattr(["export", "labels", f"{s3_uri}/run", "--output", str(tmp_path / "labels.csv")]) == 0
    exported = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert list(exported[0]) == ["image_path", "hat", "color", "label"]
    assert {row["image_path"]: row["label"] for row in exported} == {
        name: "" if row["label"] is None else str(row["label"]) for name, row in rows.items()
    }


def test_a_manifest_with_carried_columns_and_a_given_label(given, ray_local, capsys, tmp_path):
    folder, pixels, images, _ = given
    for name, data in images.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    names = [*list(images)[:6], "a/nowhere.png"]
    rows = "".join(f"{name},{number % 2},camera {number}\n" for number, name in enumerate(names))
    (tmp_path / "list.csv").write_text(f"image_path,label,camera\n{rows}")
    command = [
        "--images",
        str(tmp_path / "list.csv"),
        "--root",
        str(tmp_path / "photos"),
        "--output",
        str(tmp_path / "run"),
    ]
    assert label([*command, *flags(folder), "--max-error-share", "0.1"]) == 1
    error = capsys.readouterr().err
    assert "1 of 7 images (14.3%) cannot be used" in error
    assert "missing: 1 images" in error
    assert "a/nowhere.png" in error
    assert read_manifest(LocalStore(tmp_path / "run")) is None
    assert faceattr(["status", str(tmp_path / "run")]) == 0
    assert "state      stopped\nwhy        1 of 7 images (14.3%) cannot be used" in capsys.readouterr().out

    assert label([*command, *flags(folder), "--max-error-share", "0.2"]) == 0  # only verified and published now
    table = pa.concat_tables(read_published(LocalStore(tmp_path / "run")))
    assert table["camera"].to_pylist() == [f"camera {number}" for number in range(7)]
    assert table["given_label"].to_pylist() == [str(number % 2) for number in range(7)]
    assert table["image_id"].to_pylist() == names
    ours = expected_rows(folder, {name: pixels[name] for name in names[:6]})
    assert [row["label"] for row in table.to_pylist()[:6]] == [ours[name]["label"] for name in names[:6]]

    output = tmp_path / "labels.json"
    assert faceattr(["export", "labels", str(tmp_path / "run"), "--format", "json", "--output", str(output)]) == 0
    assert [row["image_path"] for row in json.loads(output.read_text())] == names
    differing = [name for number, name in enumerate(names[:6]) if ours[name]["label"] != number % 2]
    conflicts = list(csv.DictReader((tmp_path / "labels.conflicts.csv").open()))
    assert [row["image_path"] for row in conflicts] == differing
    assert f"{len(differing)} of 6 differ" in capsys.readouterr().out


def test_packed_images_of_two_kinds(given, ray_local, tmp_path):
    folder, _, images, _ = given
    packed = tmp_path / "packed"
    packed.mkdir()
    ids, data = pa.array(list(images)), list(images.values())
    pq.write_table(
        pa.table({"image_id": ids, "image": pa.array(data, pa.binary())}), packed / "a.parquet", row_group_size=7
    )
    assert (
        label(["--images", str(packed), "--output", str(tmp_path / "run"), *flags(folder), "--max-error-share", "0.2"])
        == 0
    )
    check_rows(pa.concat_tables(read_published(LocalStore(tmp_path / "run"))), given)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--images", "{photos}", "--output", "{run}", "--model", "{none}"], 2, "no such folder"),
        (["--images", "{empty}", "--output", "{run}"], 2, "found no image"),
        (["--images", "{photos}", "--output", "{run}", "--attributes", "nope"], 2, "clear_face"),
        (["--images", "{photos}", "--output", "{run}", "--attributes", "{sensitive}"], 2, "--allow-sensitive"),
        (["--images", "{photos}", "--output", "{run}", "--attributes", "portrait", "--model", "tiny"], 2, "'teenager'"),
        (["--images", "{photos}", "--output", "{run}", "--max-error-share", "7"], 2, "--max-error-share: expected"),
        (["--images", "{photos}", "--output", "gs://bucket/x"], 2, "gs://bucket/x"),
        (["--images", "{photos}", "--output", "{run}", "--workers.gpus-per-actor", "9"], 2, "the cluster has"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_starts(given, ray_local, capsys, tmp_path, arguments, code, text):
    folder, _, images, _ = given
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.png").write_bytes(next(iter(images.values())))
    (tmp_path / "empty").mkdir()
    (tmp_path / "sensitive.yaml").write_text("attributes: {faith: {questions: ['which religion has the person?']}}")
    places = {name: tmp_path / name for name in ("photos", "empty", "run", "none")}
    filled = [each.format(**places, sensitive=tmp_path / "sensitive.yaml") for each in arguments]
    model = [] if "--model" in filled else ["--model", str(folder / "model")]
    assert label([*filled, *model]) == code
    assert text in capsys.readouterr().err
    assert "cluster" in text or not (tmp_path / "run" / "run.json").exists()


def test_a_sensitive_question_with_a_reason_is_recorded(given, tmp_path):
    folder, _, images, _ = given
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.png").write_bytes(next(iter(images.values())))
    (tmp_path / "set.yaml").write_text("attributes: {faith: {questions: ['which religion has the person?']}}")
    config = LabelConfig(
        images=str(tmp_path / "photos"),
        output=str(tmp_path / "run"),
        model=str(folder / "model"),
        attributes=str(tmp_path / "set.yaml"),
        allow_sensitive="audit of our own data, ticket 12",
    )
    image_run.begin_run(prepare_label_job(config))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["notes"]["sensitive"] == {
        "questions": ["faith", "which religion has the person?"],
        "reason": "audit of our own data, ticket 12",
    }
