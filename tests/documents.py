"""What the tests of the documents share: the scripts with their configs, and the commands of a page."""

import re
import shlex
from pathlib import Path

from faceattr.config import EvalConfig, LabelConfig, PackConfig, PredictConfig
from faceattr.config.search import SearchConfig
from faceattr.config.train import TrainConfig

ROOT = Path(__file__).parents[1]
SCRIPTS = {
    "pipelines/label.py": LabelConfig,
    "pipelines/pack.py": PackConfig,
    "pipelines/train.py": TrainConfig,
    "tune/search.py": SearchConfig,
    "pipelines/eval.py": EvalConfig,
    "pipelines/predict.py": PredictConfig,
}


def read(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """Words of every command in the shell blocks of a page."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]
