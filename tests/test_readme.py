"""The README is true: its commands run, its links lead somewhere, its tables name what is there."""

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
from faceattr.config import LabelConfig
from faceattr.data.images import REASONS
from faceattr.data.tables import label_schema
from faceattr.demo.faces import write_faces
from faceattr.vqa.question_files import builtin_sets, load_question_set, parse_question_set

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
label = runpy.run_path(str(ROOT / "pipelines" / "label.py"))["main"]


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines() if line.strip()]


def command(*begin: str) -> list[str]:
    (found,) = [words for words in commands() if words[: len(begin)] == list(begin)]
    return found


def test_every_command_is_of_a_kind_that_a_test_below_runs():
    known = {("make", "demo"), ("make", "test"), (".", ".venv/bin/activate")}
    for words in commands():
        starts = tuple(words[:2])
        assert starts in known or starts in {
            ("python", "pipelines/label.py"),
            ("ray", "job"),
            ("faceattr", "export"),
        }, words


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


def test_flags_that_the_readme_names_exist():
    known = set(re.findall(r"--[a-z.-]+", _help()))
    for flag in set(re.findall(r"`(--[a-z-]+(?:\.[a-z-]+)?)", README)):
        assert flag in known | {"--config"}, flag


def _help() -> str:
    script = [sys.executable, str(ROOT / "pipelines" / "label.py"), "--help"]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout


@pytest.mark.ray
@pytest.mark.slow
def test_the_label_and_export_commands_run(tmp_path, ray_local, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_faces(tmp_path / "photos", 24, 3_000_000)
    words = command("python", "pipelines/label.py")[2:]
    words[words.index("--model") + 1] = "tiny"  # there is no hub here
    assert label([*words, "--workers.max-actors", "1", "--workers.gpus-per-actor", "1"]) == 0
    assert "published version 1: 24 rows" in capsys.readouterr().out
    assert faceattr(command("faceattr", "export")[1:]) == 0
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert list(rows[0]) == ["image_path", "hat", "glasses", "facial_hair", "label"]
    assert len(rows) == 24


def test_the_cluster_command_is_understood():
    words = command("ray", "job", "submit")
    assert words[: words.index("--") + 1] == ["ray", "job", "submit", "--working-dir", ".", "--"]
    config = parse_config(LabelConfig, words[words.index("pipelines/label.py") + 1 :])
    assert (config.images, config.output) == ("s3://faces/raw/", "s3://faces/labels/run1")


@pytest.mark.ray
@pytest.mark.slow
def test_the_demo_runs_and_the_tiny_model_is_right(tmp_path):
    """What `make demo` calls, with fewer faces."""
    script = [sys.executable, str(ROOT / "pipelines" / "demo.py"), "--output", str(tmp_path), "--count", "96"]
    shown = subprocess.run(script, check=True, capture_output=True, text=True, timeout=560).stdout
    f1 = dict(re.findall(r"^(hat|glasses|facial_hair) +[\d.]+ +[\d.]+ +([\d.]+) +96$", shown, re.MULTILINE))
    assert set(f1) == {"hat", "glasses", "facial_hair"}
    assert min(map(float, f1.values())) >= 0.9
    assert "labelled 96, rejected 3" in shown
    assert "<html" in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 100
