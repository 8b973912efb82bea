"""`pipelines/eval.py` end to end on real Ray: figures against scikit-learn on the predictor's own scores."""

import io
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES
from faceattr.inference.predictor import Predictor
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.transforms import EvalTransform, Normalise
from tests.models.tiny import build_model
from tests.packed_runs import write_packed_run

pytestmark = [pytest.mark.ray, pytest.mark.slow]
evaluate = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "eval.py"))["main"]
ATTRIBUTES = AttributeSet(
    attributes=(
        Attribute(name="label"),
        FACE_ATTRIBUTES["age_group"],
        FACE_ATTRIBUTES["gender"],
        FACE_ATTRIBUTES["age"],
    )
)
QUICK = ["--workers.max-actors", "1", "--workers.gpus-per-actor", "1", "--bootstrap.resamples", "100"]


def make_rows(split: str, num: int) -> list[dict]:
    """Noise whose brightness has to do with the label; one image in each split is broken."""
    rng = np.random.default_rng(len(split))
    rows = []
    for number in range(num):
        label = number % 3 == 0
        pixels = np.clip(rng.normal(150 if label else 100, 40, (40, 40, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        years = float(rng.integers(0, 80))
        rows.append(
            {
                "image": buffer.getvalue() if number else b"<html>",
                "label": int(label),
                "age_group": int(rng.integers(0, 9)),
                "gender": int(rng.integers(0, 2)),
                "age_low": years,
                "age_high": years + 1,
                "group": f"{split} {number // 2}",  # two photos a person
            }
        )
    return rows


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Rows by split, packed, and two models."""
    folder = tmp_path_factory.mktemp("given")
    rows = {"train": make_rows("train", 8), "val": make_rows("val", 90), "test": make_rows("test", 120)}
    packed = write_packed_run(folder / "packed", ATTRIBUTES, rows)
    torch.manual_seed(3)
    for name in ("first", "second"):
        build_model("resnet", folder, ATTRIBUTES).save_pretrained(folder / name)
    return folder, rows, packed


def test_an_evaluation(given, ray_local, capsys, tmp_path):
    folder, rows, packed = given
    (tmp_path / "list.txt").write_text("x.jpg,1\ny.jpg,-1\n")
    output = tmp_path / "eval"
    command = ["--model", str(folder / "first"), "--data", packed, "--output", str(output), *QUICK]
    command += ["--group-by", "gender,age_group", "--compare", str(folder / "second"), "--samples"]
    assert evaluate([*command, "--label-list", str(tmp_path / "list.txt")]) == 0
    shown = capsys.readouterr().out
    assert "judged on test" in shown
    assert re.search(rf"this minus {folder / 'second'}\n  label +f1 +[+-]0\.\d{{3}} \[", shown)

    summary = json.loads((output / "evaluation.json").read_text())
    model = MultiAttributeModel.from_pretrained(output / "model")  # with what was fitted
    assert model.thresholds == summary["thresholds"]
    assert model.calibration["label"]["method"] == "temperature"
    assert model.attributes == ATTRIBUTES
    good = [row for row in rows["test"] if row["image"] != b"<html>"]
    predictions = Predictor(model, device="cpu").predict([row["image"] for row in good])
    labels = np.array([row["label"] for row in good])
    said = np.array([each["label"].label == "yes" for each in predictions])
    scores = np.array([each["label"].score for each in predictions])
    figures = {(each["attribute"], each["group"], each["name"]): each for each in summary["figures"]}
    f1 = figures["label", None, "f1"]
    assert f1["value"] == pytest.approx(f1_score(labels, said))
    assert f1["low"] <= f1["value"] <= f1["high"]
    assert f1["count"] == 119
    assert figures["label", None, "ap"]["value"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
    groups = np.array([row["gender"] for row in good])
    wanted = accuracy_score(labels[groups == 1], said[groups == 1])
    assert figures["label", "gender=Female", "accuracy"]["value"] == pytest.approx(wanted)
    assert ("label", "gender x age_group=Male x 10-19", "accuracy") in figures
    gap, chance = figures["label", "gender", "gap/accuracy"], figures["label", "gender", "gap_by_chance/accuracy"]
    assert gap["value"] == pytest.approx(abs(wanted - accuracy_score(labels[groups == 0], said[groups == 0])))
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert chance["value"] > 0
    # The first image of the first person is broken.
    assert summary["resampling"]["label"] == {"by": "group", "num_clusters": 60, "num_rows": 119}
    accuracy, calibration = figures["label", None, "accuracy"], figures["label", None, "calibration_error"]
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert calibration["low"] <= calibration["value"] <= calibration["high"]
    assert figures["label", None, "ece"]["low"] is None
    for name, trial in summary["calibration_trials"].items():
        assert trial["by"] == "group"
        assert trial["kept"] == (trial["log_loss_after"] < trial["log_loss_before"]) == (name in model.calibration)
    years = np.array([each["age"].label for each in predictions])
    mae = np.abs(years - [row["age_low"] for row in good]).mean()
    assert figures["age", None, "mae"]["value"] == pytest.approx(mae, abs=1e-3)
    ages = [ATTRIBUTES["age_group"].classes.index(each["age_group"].label) for each in predictions]
    wanted = accuracy_score([row["age_group"] for row in good], ages)
    assert figures["age_group", None, "accuracy"]["value"] == pytest.approx(wanted)

    assert pq.read_table(output / "metrics.parquet").num_rows == len(summary["figures"])
    table = pq.read_table(output / "scores.parquet")
    assert len(table) == 89 + 119
    lines = (output / "test_labels.txt").read_text().splitlines()
    assert len(lines) == 119
    assert {line.rpartition(",")[2] for line in lines} <= {"1", "-1"}
    page = (output / "report.html").read_text()
    for text in ("By group", "Reliability", "not_an_image", "Against", "10-19", "by chance", "60 groups of 119 rows"):
        assert text in page
    card = (output / "MODEL_CARD.md").read_text()
    for text in ("Not for", "temperature", "Differences between groups", "test 120"):
        assert text in card
    for name in ("confusion_matrices.png", "precision_recall.png", "reliability.png", "sample_grid.png"):
        with Image.open(output / name) as picture:
            assert min(picture.size) > 300
    assert pq.read_table(output / "differences.parquet").num_rows > 20
    assert "AGAINST" in (output / "performance_report.txt").read_text()

    assert evaluate(command) == 2
    assert "holds files already" in capsys.readouterr().err


@pytest.mark.long
def test_an_evaluation_of_the_mean_with_mirror_images(given, ray_local, capsys, tmp_path):
    folder, rows, packed = given
    command = ["--model", str(folder / "first"), "--data", packed, "--split", "train", *QUICK]
    couples = [(2, 3, 1), (4, 5, 1), (6, 7, 1), (1, 2, 0), (3, 4, 0), (5, 6, 0), (0, 1, 1)]  # image 0 is broken
    lines = [f"train/{one:05d}.jpg,train/{other:05d}.jpg,{same}" for one, other, same in couples]
    (tmp_path / "pairs.csv").write_text("\n".join(["first,second,same", *lines]))
    pairs = ["--pairs", str(tmp_path / "pairs.csv")]
    assert evaluate([*command, "--flip", *pairs, "--output", str(tmp_path / "mirrored")]) == 0
    shown = capsys.readouterr().out
    assert "judged on train, computed in float32, mean with mirror images" in shown
    assert "verification of 3 pairs of the same and 3 of different persons" in shown
    assert "1 pairs name an image" in shown
    assert evaluate([*command, "--output", str(tmp_path / "plain")]) == 0
    summaries = {
        name: json.loads((tmp_path / name / "evaluation.json").read_text())["fingerprint"]
        for name in ("mirrored", "plain")
    }
    assert summaries["mirrored"] == {**summaries["plain"], "flip": True}
    model = MultiAttributeModel.from_pretrained(folder / "first")
    good = [row["image"] for row in rows["train"] if row["image"] != b"<html>"]
    wanted = [each["label"].score for each in Predictor(model, device="cpu", flip=True).predict(good)]
    table = pq.read_table(tmp_path / "mirrored" / "scores.parquet")
    assert table["predicted_label_score"].to_pylist() == pytest.approx(wanted, abs=1e-5)

    # Pairs are compared by the network's own features, which are not written.
    assert "embedding" not in table.column_names
    features = [_embed(model, row["image"]) for row in rows["train"][1:]]
    similar = [float(features[one - 1] @ features[other - 1]) for one, other, _ in couples[:6]]
    verified = json.loads((tmp_path / "mirrored" / "verification.json").read_text())
    assert verified["auc"] == pytest.approx(roc_auc_score([1, 1, 1, 0, 0, 0], similar))
    assert (verified["num_same"], verified["num_different"], verified["num_missing"]) == (3, 3, 1)
    (tmp_path / "pairs.csv").write_text("first,second,same\nx.jpg,y.jpg,1\n")
    assert evaluate([*command, *pairs, "--output", str(tmp_path / "none")]) == 2
    assert "none of its 1 pairs has both images among the 8 that are judged" in capsys.readouterr().err


def _embed(model, encoded):
    """Features of an image and its mirror image, averaged, of length 1."""
    preprocessing = model.backbone.preprocessing
    pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(encoded)))).permute(2, 0, 1)
    image = Normalise(preprocessing)(EvalTransform(preprocessing)(pixels))[None]
    with torch.no_grad():
        mean = model.backbone(image) + model.backbone(image.flip(-1))
    return torch.nn.functional.normalize(mean, dim=1)[0]


def test_an_image_of_training_among_the_judged_ones_is_refused(given, ray_local, capsys, tmp_path):
    folder, rows, _ = given
    leaked = {**rows, "test": [*rows["test"], rows["train"][3]]}
    packed = write_packed_run(tmp_path / "packed", ATTRIBUTES, leaked)
    command = ["--model", str(folder / "first"), "--data", packed, "--output", str(tmp_path / "eval"), *QUICK]
    assert evaluate(command) == 1
    assert "1 images of test are in train too, byte for byte" in capsys.readouterr().err
    assert not (tmp_path / "eval" / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"--model": "{none}"}, "no such folder"),
        ({"--data": "{none}"}, "holds no packed run"),
        ({"--compare": "{none}"}, "no such folder"),
        ({"--group-by": "hair"}, "--group-by hair: expected attributes of the data, label"),
        ({"--bootstrap.resamples": "5"}, "--bootstrap.resamples: expected 100 or more"),
        ({"--output": "gs://bucket/x"}, "gs://bucket/x"),
        ({"--label-list": "{none}.txt"}, "does not exist"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_starts(given, capsys, tmp_path, changes, text):
    folder, _, packed = given
    usual = {"--model": str(folder / "first"), "--data": packed, "--output": str(tmp_path / "eval")}
    flags = {**usual, **{key: each.format(none=tmp_path / "none") for key, each in changes.items()}}
    assert evaluate([word for pair in flags.items() for word in pair]) == 2
    assert text in capsys.readouterr().err


def test_data_of_other_classes_or_without_a_split_is_refused(given, capsys, tmp_path):
    folder, rows, _ = given
    gender = Attribute(name="gender", kind="multiclass", classes=("Female", "Male"))
    packed = write_packed_run(tmp_path / "other", AttributeSet(attributes=(gender,)), rows)
    command = ["--model", str(folder / "first"), "--output", str(tmp_path / "eval")]
    assert evaluate([*command, "--data", packed]) == 2
    assert "pack the data with the model's classes, in its order" in capsys.readouterr().err
    packed = write_packed_run(tmp_path / "untested", ATTRIBUTES, {"train": rows["train"], "val": rows["val"]})
    assert evaluate([*command, "--data", packed]) == 2
    assert "the split 'test' is empty" in capsys.readouterr().err
