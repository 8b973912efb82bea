"""The examples run as they stand, offline, on drawn faces."""

import csv
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from faceattr.cli import parse_config
from faceattr.config import PackConfig
from faceattr.demo.faces import write_faces
from faceattr.vqa.question_files import load_question_set

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NOTEBOOKS = {"label_and_look.ipynb", "train_on_own_csv.ipynb"}
# One small actor, so that decoding has a core of its own.
SMALL_ACTOR = ["--workers.max-actors", "1", "--ray.no-dashboard"]


def run_script(name: str, *arguments: object, cwd: Path) -> str:
    """Output of a shell script of `examples/`, run from another folder with the tests' own python and faceattr."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    command = ["bash", str(EXAMPLES / name), *map(str, arguments)]
    finished = subprocess.run(
        command, cwd=cwd, env=environment, check=False, capture_output=True, text=True, timeout=500
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def test_every_example_is_run_by_a_test_of_this_file():
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    assert names - NOTEBOOKS == {"label_folder.sh", "my_questions.yaml", "own_source.py", "train_on_own_table.sh"}
    assert names >= NOTEBOOKS
    assert all(os.access(EXAMPLES / name, os.X_OK) for name in names if name.endswith((".sh", ".py")))


@pytest.mark.parametrize("name", sorted(NOTEBOOKS))
def test_a_notebook_has_no_outputs_and_begins_with_its_title(name):
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.outputs == [] and cell.execution_count is None for cell in notebook.cells if "outputs" in cell)
    assert all(cell.metadata == {} for cell in notebook.cells)
    assert (EXAMPLES / name).read_text().isascii()
    # docs/site/hooks.py takes the title and the first paragraph.
    title, summary, _ = notebook.cells[0].source.split("\n\n")
    assert title.startswith("# ")
    assert summary.endswith(".")


def test_the_questions_are_read():
    found = load_question_set(str(EXAMPLES / "my_questions.yaml"))
    assert found.attributes.names == ("hat", "glasses", "hair_color")
    assert [rule.name for rule in found.derived] == ["covered"]
    assert found.asked[0].inverted == (False, True)


def test_labels_of_ones_own_become_a_table_that_pack_reads(tmp_path, capsys):
    entries = [
        {"file": "a.jpg", "tags": ["hat"], "age": "20-29", "person": "p1"},
        {"file": "b.jpg", "tags": [], "age": "31"},
        {"file": "c.jpg", "tags": ["glasses", "hat"], "age": "old"},
    ]
    (tmp_path / "annotations.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    example = runpy.run_path(str(EXAMPLES / "own_source.py"))
    assert example["main"]([str(tmp_path / "annotations.jsonl"), str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "2 images, attributes hat (binary), glasses (binary), age (age)"
    assert shown[1].startswith("rejected 1 rows: ")
    command = shlex.split(shown[-1])
    config = parse_config(PackConfig, command[2:])
    assert config.source_options.columns == example["COLUMNS"]
    assert example["main"]([]) == 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_folder_is_labelled(tmp_path):
    truth = list(csv.DictReader(write_faces(tmp_path / "photos", 24, 5_000_000).open()))
    shown = run_script("label_folder.sh", "photos", "labels", "tiny", *SMALL_ACTOR, cwd=tmp_path)
    assert "state      published" in shown
    rows = {row["image_path"]: row for row in csv.DictReader((tmp_path / "labels.csv").open())}
    assert len(rows) == 24
    assert {"hat", "hat_score", "glasses", "hair_color_score_black", "covered"} <= set(rows["face-00000.jpg"])
    right = sum(rows[face["image_path"]]["hat"] == face["hat"] for face in truth)
    assert right >= 21


@pytest.mark.ray
@pytest.mark.long
def test_a_table_is_learnt(tmp_path):
    truth = write_faces(tmp_path / "own", 120, 6_000_000)
    shutil.move(truth, tmp_path / "own" / "labels.csv")
    small = "--model.backbone resnet10t --model.no-pretrained --model.image-size 32 --optim.epochs 1 --ray.no-dashboard"
    shown = run_script("train_on_own_table.sh", "own", "out", *small.split(), cwd=tmp_path)
    assert "look at out/eval/report.html" in shown
    for left in ("model/model.safetensors", "eval/report.html", "eval/MODEL_CARD.md", "model.onnx", "model.json"):
        assert (tmp_path / "out" / left).is_file(), left


def execute(name: str, folder: Path) -> nbformat.NotebookNode:
    """A notebook after all of its cells have run in an empty folder; a cell that fails raises."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def shown_by(notebook: nbformat.NotebookNode) -> tuple[str, int]:
    """(text of all outputs, number of pictures)."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.get("data", {}) for output in outputs]
    text = "".join(output.get("text", "") for output in outputs) + "\n".join(
        each.get("text/plain", "") for each in data
    )
    return text, sum("image/png" in each for each in data)


@pytest.mark.ray
@pytest.mark.long
def test_the_notebook_that_labels_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    text, num_pictures = shown_by(execute("label_and_look.ipynb", tmp_path))
    assert "labelled 200, rejected 0" in text
    assert num_pictures == 5
    # The table of precision, recall and F1: the tiny model knows drawn faces.
    f1 = re.findall(r"^(?:hat|glasses|facial_hair) +[\d.]+ +[\d.]+ +([\d.]+)$", text, re.MULTILINE)
    assert len(f1) == 3
    assert min(map(float, f1)) >= 0.9
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 201


@pytest.mark.ray
@pytest.mark.long
def test_the_notebook_that_trains_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    text, num_pictures = shown_by(execute("train_on_own_csv.ipynb", tmp_path))
    assert "trained 12 epochs; the best is" in text
    assert "MODEL PERFORMANCE REPORT" in text
    assert num_pictures == 2
    assert (tmp_path / "eval" / "report.html").is_file()
