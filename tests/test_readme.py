"""The README is true: its commands run, its links lead somewhere, its tables name what is there."""

import ast
import csv
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from faceattr.cli import main as faceattr
from faceattr.cli import parse_config
from faceattr.config import EvalConfig, LabelConfig, PackConfig, PredictConfig
from faceattr.config.search import SearchConfig
from faceattr.config.train import TrainConfig
from faceattr.data.images.decode import REASONS
from faceattr.data.label_columns import label_schema
from faceattr.demo.faces import write_faces
from faceattr.training.presets import PRESETS_FOLDER
from faceattr.vqa.question_files import builtin_sets, load_question_set, parse_question_set

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CHAIN = {
    "pipelines/label.py": LabelConfig,
    "pipelines/pack.py": PackConfig,
    "pipelines/train.py": TrainConfig,
    "tune/search.py": SearchConfig,
    "pipelines/eval.py": EvalConfig,
    "pipelines/predict.py": PredictConfig,
}


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line.strip()]


def command(*begin: str) -> list[str]:
    (found,) = [words for words in commands() if words[: len(begin)] == list(begin)]
    return found


def test_every_command_is_of_a_kind_that_a_test_below_runs():
    known = {("make", "demo"), ("make", "test"), (".", ".venv/bin/activate"), ("ray", "job")}
    known |= {("python", script) for script in CHAIN} | {("faceattr", each) for each in ("export", "predict", "plan")}
    for words in commands():
        assert tuple(words[:2]) in known, words


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_paths_in_the_map_exist():
    for path in re.findall(r"^\| `([a-z/_]+/)` \|", README, re.MULTILINE):
        assert (ROOT / path).is_dir(), path


def test_the_tests_that_promises_name_exist():
    promised = re.findall(r"`(tests/[a-z_/0-9]+\.py)::(test_[a-z_0-9]+)`", README)
    assert len(promised) > 10
    for path, name in promised:
        defined = {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert name in defined, f"{path}::{name}"


def test_the_table_of_question_sets_is_the_packages():
    table = dict(re.findall(r"^\| `([a-z0-9_]+)` \| (.+?) \|$", README.split("### What you ask")[1], re.MULTILINE))
    for name in builtin_sets():
        for attribute in load_question_set(name).attributes.names:
            assert attribute in table[name]


def test_the_example_of_a_question_file_is_read():
    text = re.search(r"```yaml\n# questions.yaml\n(.*?)```", README, re.DOTALL).group(1)
    found = parse_question_set(text, name="example", where="README")
    assert found.attributes.names == ("sunglasses", "hair_color")
    assert found.asked[0].abstain == (0.5, 0.7)


def test_columns_and_reasons_that_the_readme_names_exist():
    names = label_schema(load_question_set("clear_face").attributes).names
    for column in ("row", "image_id", "uri", "status", "error", "sha256", "width_px", "height_px"):
        assert f"`{column}`" in README
        assert column in names
    for reason in re.search(r"a reason such as (.*?), and what", README).group(1).split(", "):
        assert reason.strip("`") in REASONS


def test_flags_that_the_readme_names_exist(capsys):
    for config in CHAIN.values():
        with pytest.raises(SystemExit):
            parse_config(config, ["--help"])
    for command in (["predict"], ["status"], ["export", "labels"]):
        with pytest.raises(SystemExit):
            faceattr([*command, "--help"])
    known = set(re.findall(r"--[a-z.-]+", capsys.readouterr().out))
    for flag in set(re.findall(r"`(--[a-z-]+(?:\.[a-z-]+)?)", README)):
        assert flag in known | {"--config"}, flag


# What the README's commands need besides, since a test has neither hub nor time.
SMALL = {
    "pipelines/label.py": "--workers.max-actors 1 --workers.gpus-per-actor 1",
    "pipelines/train.py": "--model.backbone resnet10t --model.no-pretrained --model.image-size 32 --optim.epochs 1",
    "tune/search.py": "--set model.backbone=test_vit model.pretrained=false optim.epochs=1 --num-samples 2",
    "pipelines/eval.py": "--workers.max-actors 1 --workers.gpus-per-actor 1 --bootstrap.resamples 20",
    "pipelines/predict.py": "--workers.max-actors 1 --workers.gpus-per-actor 1",
}


@pytest.mark.ray
@pytest.mark.long
def test_the_chain_of_commands_runs(tmp_path, ray_local, monkeypatch, capsys):
    """Every command for one machine, as it stands, one after the other, on drawn faces."""
    monkeypatch.chdir(tmp_path)
    write_faces(tmp_path / "photos", 60, 3_000_000)
    for words in commands():
        script = words[1] if words[0] == "python" else None
        if script and "--config" not in words and "--resume" not in words:
            arguments = [*words[2:], *shlex.split(SMALL.get(script, ""))]
            if script == "pipelines/label.py":
                arguments[arguments.index("--model") + 1] = "tiny"
            assert runpy.run_path(str(ROOT / script))["main"](arguments) == 0, words
        elif words[0] == "faceattr":
            assert faceattr(words[1:]) == 0, words
    shown = capsys.readouterr().out
    assert "published version 1: 60 rows" in shown
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert list(rows[0]) == ["image_path", "hat", "glasses", "facial_hair", "label"]
    assert len(rows) == 60
    for left in ("models/m1/model.safetensors", "search/best.yaml", "eval/report.html", "m1.onnx"):
        assert (tmp_path / left).is_file(), left


def test_the_cluster_commands_are_understood():
    for words in commands():
        if words[:3] != ["ray", "job", "submit"]:
            continue
        assert words[3:7] == ["--working-dir", ".", "--", "python"]
        presets = PRESETS_FOLDER if words[7] == "pipelines/train.py" else None
        config = parse_config(CHAIN[words[7]], words[8:], presets=presets)
        assert config.output.startswith("s3://faces/")


@pytest.mark.ray
@pytest.mark.slow
def test_the_demo_begins_and_the_tiny_model_is_right(tmp_path):
    """What `make demo` calls, with fewer faces, as far as the labels; the commands after it run in the test above."""
    script = [sys.executable, str(ROOT / "pipelines" / "demo.py"), "--output", str(tmp_path), "--count", "96"]
    shown = subprocess.run([*script, "--last-step", "label"], check=True, capture_output=True, text=True, timeout=560)
    f1 = dict(re.findall(r"^(hat|glasses|facial_hair) +[\d.]+ +[\d.]+ +([\d.]+) +96$", shown.stdout, re.MULTILINE))
    assert set(f1) == {"hat", "glasses", "facial_hair"}
    assert min(map(float, f1.values())) >= 0.9
    assert "labelled 96, rejected 3" in shown.stdout
    assert "<html" in (tmp_path / "label-report.html").read_text()
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 100
