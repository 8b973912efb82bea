"""The script of `faceattr completion`, sourced and asked by a real bash."""

import subprocess

import pytest

from faceattr.commands.completion import write_bash_script
from faceattr.commands.table import COMMANDS

# Commands whose flags come from configs alone, which import in no time; all words are completed.
LIGHT = {("label",), ("train",), ("predict", "bucket")}
ASK = """
set -eu
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_faceattr faceattr "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "faceattr.bash"
    path.write_text(write_bash_script(tuple(each for each in COMMANDS if each.words in LIGHT)))

    def complete(*words):
        command = ["bash", "-c", ASK, "bash", str(path), "faceattr", *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ended.stderr == ""
        return ended.stdout.split()

    return complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["la"], ["label"]),
        ([""], ["label", "train", "predict"]),
        (["predict", ""], ["bucket"]),
        (["label", "--eng"], ["--engine"]),
        (["label", "--images", "x", "--ray.no-"], ["--ray.no-dashboard"]),
        (["label", "--engine", ""], ["packed", "hf"]),
        (["label", "--engine", "=", "p"], ["packed"]),
        (["label", "--engine", "="], ["packed", "hf"]),
        (["train", "--log-format", "j"], ["json"]),
        (["train", "--loggers", ""], ["wandb", "mlflow"]),
        (["train", "--preset", "cl"], ["clear_face"]),
        (["train", "--config", ""], []),  # a file, which bash completes
        (["nothing", "--x"], []),
    ],
)
def test_what_bash_offers(complete, words, expected):
    assert complete(*words) == expected


def test_every_flag_of_a_command_is_offered(complete):
    found = complete("predict", "bucket", "--")
    assert {"--images", "--model", "--storage.no-verify", "--help", "--config", "--log-format"} <= set(found)
    assert found == sorted(found)
