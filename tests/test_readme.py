"""The README is true: its commands run in its order, its pictures and its table are there. See `test_docs.py`, too."""

import csv
import re
import shlex
import subprocess
import sys

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from faceattr.cli import main as faceattr
from faceattr.cli import parse_config
from faceattr.commands.table import find_command
from faceattr.demo.faces import write_faces
from faceattr.demo.reviewer import judge_by_truth
from faceattr.training.presets import PRESETS_FOLDER
from tests.documents import ROOT, SCRIPTS
from tests.documents import commands as commands_of

README = (ROOT / "README.md").read_text()
_LARGEST_PICTURE = 100_000
# Enough for a batch of the default size, and for both labels in every split.
_NUM_FACES = 240


def commands() -> list[list[str]]:
    return commands_of(README)


def test_every_command_is_of_a_kind_that_a_test_below_runs():
    known = {("make", "demo"), ("make", "test"), (".", ".venv/bin/activate"), ("ray", "job")}
    known |= {("faceattr", each) for each in (*SMALL, "audit", "export", "plan", "predict")}
    for words in commands():
        assert tuple(words[:2]) in known, words


def test_the_readme_is_one_screen_of_each_thing():
    assert len(README.splitlines()) <= 170


def test_folders_of_the_map_exist():
    folders = re.findall(r"`([a-z/_]+/)`", README.split("## Map")[1])
    assert len(folders) > 10
    for folder in folders:
        assert (ROOT / folder).is_dir() or (ROOT / "tests" / folder).is_dir(), folder


def shown_rows() -> list[dict[str, str]]:
    """The excerpt of the label table, by column; an empty cell is null."""
    lines = re.findall(r"^\| (.*) \|$", README.split("## What you get")[1].split("\n## ")[0], re.MULTILINE)
    header, _, *rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_pictures_are_small():
    pages = [README, *(path.read_text() for path in (ROOT / "docs").glob("*.md"))]
    shown = {name for page in pages for name in re.findall(r"[\"(](?:docs/)?images/([a-z_-]+\.[a-z]+)", page)}
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    assert shown == set(pictures)
    assert max(pictures.values()) < _LARGEST_PICTURE


# What the README's commands get in addition, and what they get in place of their own, since a test has neither hub nor
# time.
SMALL = {
    "label": "--workers.max-actors 1 --workers.gpus-per-actor 1",
    "pack": "",
    "train": "--model.backbone resnet10t --model.no-pretrained --model.image-size 32 --optim.epochs 1",
    "search": "--set model.backbone=test_vit model.pretrained=false optim.epochs=1",
    "evaluate": "--workers.max-actors 1 --workers.gpus-per-actor 1 --bootstrap.resamples 100",
    "predict bucket": "--workers.max-actors 1 --workers.gpus-per-actor 1",
}
REPLACED = {"label": ("--model", "tiny"), "search": ("--num-samples", "2")}


@pytest.mark.ray
@pytest.mark.long
def test_the_chain_of_commands_runs(tmp_path, ray_local, monkeypatch, capsys):
    """Every command for one machine, as it stands, one after the other, on drawn faces."""
    monkeypatch.chdir(tmp_path)
    truth = pyarrow.csv.read_csv(write_faces(tmp_path / "photos", _NUM_FACES, 3_000_000))
    for words in commands():
        if words[0] != "faceattr":
            continue
        if words[:3] == ["faceattr", "audit", "review"]:
            judge_by_truth(tmp_path / words[3], truth)  # in place of a person at the page
            continue
        command = find_command(words[1:])
        name, arguments = " ".join(command.words), words[1:]
        if name in SMALL and not {"--config", "--resume", "--rethreshold"} & set(words):
            arguments += shlex.split(SMALL[name])
            if name in REPLACED:
                flag, value = REPLACED[name]
                arguments[arguments.index(flag) + 1] = value
        elif "--config" in words or "--resume" in words:
            continue
        assert faceattr(arguments) == 0, words
    shown = capsys.readouterr().out
    assert f"published version 1: {_NUM_FACES} rows" in shown
    assert f"published version 2: {_NUM_FACES} rows" in shown
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert list(rows[0]) == ["image_path", "hat", "glasses", "facial_hair", "label"]
    assert len(rows) == _NUM_FACES
    for left in ("models/m1/model.safetensors", "search/best.yaml", "eval/report.html", "m1.onnx"):
        assert (tmp_path / left).is_file(), left


def test_the_cluster_commands_are_understood():
    for words in commands():
        if words[:3] != ["ray", "job", "submit"]:
            continue
        assert words[3:7] == ["--working-dir", ".", "--", "python"]
        presets = PRESETS_FOLDER if words[7] == "pipelines/train.py" else None
        config = parse_config(SCRIPTS[words[7]], words[8:], presets=presets)
        assert config.output.startswith("s3://faces/")


@pytest.mark.ray
@pytest.mark.slow
def test_the_demo_begins_and_the_tiny_model_is_right(tmp_path):
    """What `make demo` calls, with fewer faces, as far as the labels, of which the README shows some rows."""
    demo = [sys.executable, "-m", "faceattr", "demo", "--output", str(tmp_path), "--count", "96"]
    shown = subprocess.run([*demo, "--last-step", "label"], check=True, capture_output=True, text=True, timeout=560)
    f1 = dict(re.findall(r"^(hat|glasses|facial_hair) +[\d.]+ +[\d.]+ +([\d.]+) +96$", shown.stdout, re.MULTILINE))
    assert set(f1) == {"hat", "glasses", "facial_hair"}
    assert min(map(float, f1.values())) >= 0.9
    assert "labelled 96, rejected 3" in shown.stdout
    assert "<html" in (tmp_path / "label-report.html").read_text()
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 100
    table = {row["image_id"]: row for row in pq.read_table(tmp_path / "labels").to_pylist()}
    for shown_row in shown_rows():
        found = table[shown_row["image_id"]]
        for name, text in shown_row.items():
            if text and name.endswith("_score"):
                assert found[name] == pytest.approx(float(text), abs=0.01)
            else:
                assert str(found[name]) == (text or "None")
