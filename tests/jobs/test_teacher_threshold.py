"""A teacher that says yes from 0.2 on, and its student: labels -> pack -> train -> evaluate -> predict -> exports."""

import csv
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_score, recall_score

from faceattr.cli import main as faceattr
from faceattr.data.packed.reader import open_packed
from faceattr.models.multitask import MultiAttributeModel
from tests.jobs.train_data import SIZE, TINY, png
from tests.label_runs import write_label_run

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.long]
PIPELINES = Path(__file__).parents[2] / "pipelines"
pack, train, evaluate, predict = (
    runpy.run_path(str(PIPELINES / f"{name}.py"))["main"] for name in ("pack", "train", "eval", "predict")
)
NUM = 320
ONE_ACTOR = ["--workers.max-actors", "1", "--workers.gpus-per-actor", "1", "--ray.no-dashboard"]
LEARN = [
    *("--optim.epochs", "8", "--optim.lr", "3e-3", "--feed.batch-size", "32", "--augment.color", "0"),
    *("--augment.blur", "0"),
]


def teach(folder):
    """Images whose red tells a hat, and a label run that is unsure of most hats. Its labels by image id."""
    rng = np.random.default_rng(0)
    rows, labels = {}, {}
    for number in range(NUM):
        red = int(rng.integers(20, 236))
        noise = rng.integers(-15, 15, (SIZE, SIZE, 3))
        pixels = np.clip(np.array([red, 120, 120]) + noise, 0, 255).astype(np.uint8)
        name, score = f"{number:03d}.png", (red / 255) ** 2
        labels[name] = None if 0.15 < score < 0.25 else int(score >= 0.2)
        rows[name] = (png(pixels), {"hat": labels[name], "hat_score": score, "hat_mass": 1.0})
        (folder / "images" / name).write_bytes(rows[name][0])
    decisions = {"hat": {"threshold": 0.2, "abstain": (0.15, 0.25)}}
    return write_label_run(folder / "labels", ["hat"], rows, root=folder / "images", decisions=decisions), labels


def test_a_student_says_yes_where_its_teacher_does(tmp_path, ray_local, capsys):
    (tmp_path / "images").mkdir()
    run, labels = teach(tmp_path)
    packed, output = str(tmp_path / "packed"), str(tmp_path / "model")
    assert pack(["--labels", run, "--output", packed]) == 0
    assert "scores of hat are recentred: threshold 0.2 of the label run becomes 0.5 here" in capsys.readouterr().out
    notes = json.loads((tmp_path / "packed" / "run.json").read_text())["notes"]
    assert notes["teachers"] == {"hat": {"threshold": 0.2, "abstain": [0.15, 0.25]}}
    assert train(["--data", packed, "--output", output, *TINY, *LEARN]) == 0

    # The split that nobody learnt from, at the model's own cut and at one that is fitted.
    data = open_packed([packed], needs=("test",))
    (table,) = data.iter_split("test", ["image_id", "hat"])
    held_out = [name for name in table["image_id"].to_pylist() if labels[name] is not None]
    for flags, name in (("keep", "own"), ("f1", "fitted")):
        command = ["--model", output, "--data", packed, "--output", str(tmp_path / name), *ONE_ACTOR]
        command += ["--thresholds.criterion", flags, "--calibration", "none", "--bootstrap.resamples", "100"]
        assert evaluate(command) == 0
        figures = json.loads((tmp_path / name / "evaluation.json").read_text())["figures"]
        found = {each["name"]: each for each in figures if each["attribute"] == "hat"}
        assert found["recall"]["count"] == len(held_out)
        assert min(found["recall"]["value"], found["precision"]["value"]) > 0.9
    assert MultiAttributeModel.from_pretrained(output).thresholds == {}
    fitted = MultiAttributeModel.from_pretrained(tmp_path / "fitted" / "model").thresholds["hat"]
    assert 0.3 < fitted < 0.7

    command = ["--model", output, "--images", str(tmp_path / "images"), "--output", str(tmp_path / "said")]
    assert predict([*command, *ONE_ACTOR]) == 0
    tables = {}
    for name in ("labels", "said"):
        path = tmp_path / f"{name}.csv"
        assert faceattr(["export", "labels", str(tmp_path / name), "--scores", "--output", str(path)]) == 0
        tables[name] = {row["image_path"]: row for row in csv.DictReader(path.open())}
    teacher, student = tables["labels"], tables["said"]
    assert {name: row["hat"] for name, row in teacher.items()} == {
        name: "" if label is None else str(label) for name, label in labels.items()
    }
    sure = [name for name in labels if labels[name] is not None]
    truth = [labels[name] for name in sure]
    said = [int(student[name]["hat"]) for name in sure]
    assert min(recall_score(truth, said), precision_score(truth, said)) > 0.9
    # What the student learnt, cut where its teacher is not: most hats that it was unsure of would be lost.
    assert recall_score(truth, [float(teacher[name]["hat_score"]) >= 0.5 for name in sure]) < 0.6

    onnxruntime = pytest.importorskip("onnxruntime")
    assert faceattr(["export", "model", output, "--output", str(tmp_path / "m.onnx")]) == 0
    (attribute,) = json.loads((tmp_path / "m.json").read_text())["attributes"]
    assert attribute["threshold"] == 0.5
    pixels = np.stack([np.array(Image.open(tmp_path / "images" / name)) for name in held_out])
    found = onnxruntime.InferenceSession(str(tmp_path / "m.onnx")).run(["hat"], {"images": pixels})[0]
    assert found.tolist() == [int(student[name]["hat"]) for name in held_out]
