"""An attribute of every kind from a table to an exported file: pack, train, eval, predict, export; one run for all.

Whoever adds a kind adds its example to EXAMPLES; `faceattr.attributes` lists the files that then have to know it.
"""

import csv
import json
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.attributes import Attribute, AttributeKind
from faceattr.cli import main as faceattr
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.version import read_published
from faceattr.data.stores.open import open_store
from faceattr.inference.predictor import Predictor
from faceattr.models.multitask import MultiAttributeModel
from tests.jobs.pack_images import picture, write_images
from tests.jobs.train_data import TINY

ROOT = Path(__file__).parents[2]
NUM_IMAGES = 72  # a third of them in each split
ONE_ACTOR = ["--workers.max-actors", "1", "--workers.gpus-per-actor", "1", "--ray.no-dashboard"]


@dataclass(frozen=True)
class Example:
    """Labels of one kind, and what must become of them.

    Attributes:
        attribute: as the model must have it.
        entry: of `--source-options.columns`.
        cells: of the table's column; image n has the one at n modulo their number.
        packed: label columns of the packed run.
        validated: figures of training.
        judged: figures of evaluation, the first one with a value.
        compared: a figure that is given by group, with its gap.
        predicted: columns of the prediction table.
        exported: columns of the exported table, with class names and scores.
        onnx: outputs of the exported model.
        says: what a prediction for people may be.
    """

    attribute: Attribute
    entry: str
    cells: tuple[str, ...]
    packed: set[str]
    validated: set[str]
    judged: tuple[str, ...]
    compared: str
    predicted: set[str]
    exported: set[str]
    onnx: set[str]
    says: type | tuple[str, ...]


TONES, PERSONS = ("dark", "middle", "light"), ("ann", "bob", "cid", "dot", "eve", "fay")
EXAMPLES = {
    "binary": Example(
        attribute=Attribute(name="hat"),
        entry="hat=hat",
        cells=("1", "0"),
        packed={"hat"},
        validated={"accuracy", "f1", "ap", "auc"},
        judged=("accuracy", "f1", "ap", "auc", "log_loss", "calibration_error"),
        compared="recall",
        predicted={"hat", "hat_score"},
        exported={"hat", "hat_score"},
        onnx={"hat", "hat_score"},
        says=("no", "yes"),
    ),
    "multiclass": Example(
        attribute=Attribute(name="tone", kind="multiclass", classes=TONES),
        entry="tone=tone:dark|middle|light",
        cells=("dark", "middle", "light", "dark|middle", "light"),
        packed={"tone", "tone_mask"},
        validated={"accuracy", "macro_f1", "coarse_accuracy", "f1/light"},
        judged=("accuracy", "macro_f1", "coarse_accuracy", "f1/light", "auc/dark", "log_loss"),
        compared="macro_f1",
        predicted={"tone", "tone_score"},
        exported={"tone", "tone_score_dark", "tone_score_middle", "tone_score_light"},
        onnx={"tone", "tone_score"},
        says=TONES,
    ),
    "age": Example(
        attribute=Attribute(name="age", kind="age", classes=()),
        entry="age=years:age",
        cells=("25", "20-29", "31", "40", "70+", "3", "52"),
        packed={"age_low", "age_high"},
        validated={"mae", "within_5", "range_accuracy"},
        judged=("mae", "rmse", "bias", "within_5", "range_accuracy"),
        compared="mae",
        predicted={"age"},
        exported={"age"},
        onnx={"age"},
        says=float,
    ),
    "identity": Example(
        attribute=Attribute(name="who", kind="identity", classes=PERSONS),
        entry="who=name:identity",
        cells=PERSONS,
        packed={"who"},
        validated={"top1", "top5", "macro_f1"},
        judged=("top1", "top5", "macro_f1"),
        compared="top1",
        predicted={"who", "who_score"},
        exported={"who", "who_score"},
        onnx={"who", "who_score"},
        says=PERSONS,
    ),
}
every_example = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
# One run of some 80 s for all of them; what a new kind must be known by without Ray is tested in any case.
pytestmark = pytest.mark.long
needs_ray = pytest.mark.ray


def test_there_is_an_example_of_every_kind():
    kinds = get_args(AttributeKind)
    assert tuple(EXAMPLES) == kinds, f"add an Example of {sorted({*kinds} - {*EXAMPLES})} to EXAMPLES in {__file__}"
    assert [example.attribute.kind for example in EXAMPLES.values()] == list(kinds)


@pytest.fixture(scope="module")
def made(ray_local, tmp_path_factory):
    """Folder of one run of every command: packed, model, eval, said (a prediction run), said.csv, m.onnx, m.json."""
    folder = tmp_path_factory.mktemp("every-kind")
    main = {name: runpy.run_path(str(ROOT / "pipelines" / f"{name}.py"))["main"] for name in ("pack", "train", "eval")}
    predict = runpy.run_path(str(ROOT / "pipelines" / "predict.py"))["main"]
    write_images(folder / "in", {f"{number:02d}.png": number for number in range(NUM_IMAGES)})
    columns = [example.entry.partition(":")[0].partition("=")[2] for example in EXAMPLES.values()]
    with (folder / "in" / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "part", *columns])
        for number in range(NUM_IMAGES):
            labels = [example.cells[number % len(example.cells)] for example in EXAMPLES.values()]
            table.writerow([f"{number:02d}.png", ("train", "val", "test")[number * 3 // NUM_IMAGES], *labels])

    entries = ["image=image", "split=part", *(example.entry for example in EXAMPLES.values())]
    source = ["--source", "table", "--root", str(folder / "in"), "--source-options.columns", *entries]
    assert main["pack"]([*source, "--output", str(folder / "packed"), "--ray.no-dashboard"]) == 0

    data, model = ["--data", str(folder / "packed")], ["--model", str(folder / "model")]
    quick = ["--optim.epochs", "1", "--feed.batch-size", "8", "--feed.block-rows", "8"]
    assert main["train"]([*data, "--output", str(folder / "model"), *TINY, *quick]) == 0

    groups = ["--group-by", "hat", "--min-group", "2", "--bootstrap.resamples", "100", "--samples"]
    assert main["eval"]([*model, *data, "--output", str(folder / "eval"), *groups, *ONE_ACTOR]) == 0

    assert predict([*model, "--images", str(folder / "in"), "--output", str(folder / "said"), *ONE_ACTOR]) == 0
    export = ["export", "labels", str(folder / "said"), "--class-names", "--scores"]
    assert faceattr([*export, "--output", str(folder / "said.csv")]) == 0
    assert faceattr(["export", "model", str(folder / "model"), "--output", str(folder / "m.onnx")]) == 0
    return folder


@needs_ray
@pytest.mark.slow
@every_example
def test_it_is_packed(made, example):
    data = open_packed([str(made / "packed")], needs=())
    assert data.attributes[example.attribute.name] == example.attribute
    tables = [table for split in data.splits for table in data.iter_split(split, sorted(example.packed))]
    rows = pa.concat_tables(tables).to_pylist()
    assert len(rows) == NUM_IMAGES
    assert all(any(value is not None for value in row.values()) for row in rows)
    assert all(any(row[name] is not None for row in rows) for name in example.packed)


@needs_ray
@pytest.mark.slow
@every_example
def test_it_is_learnt_and_judged_in_training(made, example):
    name = example.attribute.name
    assert MultiAttributeModel.from_pretrained(made / "model").attributes[name] == example.attribute
    with (made / "model" / "metrics.csv").open() as file:
        (epoch,) = csv.DictReader(file)
    assert {f"val/{name}/{figure}" for figure in example.validated} <= set(epoch)
    assert float(epoch[f"train/{name}/loss"]) > 0
    assert f"<h3>{name} " in (made / "model" / "report.html").read_text()


@needs_ray
@pytest.mark.slow
@every_example
def test_it_is_evaluated(made, example):
    name = example.attribute.name
    rows = [row for row in pq.read_table(made / "eval" / "metrics.parquet").to_pylist() if row["attribute"] == name]
    figures = {row["name"]: row for row in rows if row["group"] is None}
    assert set(example.judged) <= set(figures)
    first = figures[example.judged[0]]
    assert first["value"] is not None
    assert first["count"] > 0
    by_group = {row["group"] for row in rows if row["name"] == example.compared and row["group"] is not None}
    gaps = {row["name"] for row in rows if row["group"] == "hat"}
    if name == "hat":  # not grouped by its own labels
        assert (by_group, gaps) == (set(), set())
    else:
        assert by_group == {"hat=no", "hat=yes"}
        assert f"gap/{example.compared}" in gaps
    scored = pq.read_table(made / "eval" / "scores.parquet")
    assert {f"output_{name}", f"predicted_{name}", *example.packed} <= set(scored.column_names)
    assert f"\n{name.upper()} (" in (made / "eval" / "performance_report.txt").read_text()
    assert f"\n| {name} | " in (made / "eval" / "MODEL_CARD.md").read_text()
    assert f"<h3>{name} " in (made / "eval" / "report.html").read_text()


@needs_ray
@pytest.mark.slow
@every_example
def test_it_is_predicted(made, example):
    rows = pa.concat_tables(read_published(open_store(str(made / "said")))).to_pylist()
    assert {row["status"] for row in rows} == {"ok"}
    assert len(rows) == NUM_IMAGES
    assert all(row[column] is not None for row in rows for column in example.predicted)
    prediction = Predictor(MultiAttributeModel.from_pretrained(made / "model"), device="cpu").predict([picture(0)])[0]
    said = prediction[example.attribute.name].label
    assert isinstance(said, example.says) if isinstance(example.says, type) else said in example.says


@needs_ray
@pytest.mark.slow
@every_example
def test_it_is_exported(made, example):
    name, classes = example.attribute.name, example.attribute.classes
    with (made / "said.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == NUM_IMAGES
    assert {column for column in rows[0] if column.partition("_score")[0] == name} == example.exported
    if isinstance(example.says, tuple) and example.attribute.kind != "binary":
        assert {row[name] for row in rows} <= set(example.says)
    described = {each["name"]: each for each in json.loads((made / "m.json").read_text())["attributes"]}
    assert (described[name]["kind"], described[name]["classes"]) == (example.attribute.kind, list(classes))
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(made / "m.onnx"))
    outputs = [each.name for each in session.get_outputs()]
    assert example.onnx <= set(outputs)
    size = session.get_inputs()[0].shape[1]
    found = session.run(sorted(example.onnx), {"images": np.zeros((2, size, size, 3), np.uint8)})
    assert [len(each) for each in found] == [2] * len(example.onnx)
