"""Resumes the samples, each by the command that made it; what they then are is compared by the tests."""

import contextlib
import io
from dataclasses import dataclass

from tests.goldens.bucket import COMMANDS, GOLDENS, place_images, place_sample, run, script

UNFINISHED = (
    "labels_unfinished",
    "packed_unfinished",
    "model_unfinished",
    "search_unfinished",
    "predictions_unfinished",
    "evaluation_unfinished",
)
FINISHED = ("labels", "packed", "model", "predictions")
"""Of which the same command says that nothing is to be done."""


@dataclass(frozen=True)
class Outcome:
    """Exit code of a command, and what it wrote to standard output."""

    code: int
    text: str


def place_all() -> None:
    """Puts all samples into the bucket, and unfinished copies of the finished ones."""
    place_images()
    for name in COMMANDS:
        place_sample(name)
    packed = place_sample("packed", at="packed_unfinished")
    for key in ("packed/split=val/shard-00000001.parquet", "label_counts.csv", "_manifest.json"):
        packed.get(key)
        packed.delete(key)
    place_sample("predictions", at="predictions_unfinished").delete("_manifest.json")
    place_sample("evaluation", at="evaluation_unfinished").delete("evaluation.json")


def resume_all() -> dict[str, Outcome]:
    """Name -> outcome. Ray runs, and the samples are in the bucket."""
    found = {name: _told(name) for name in FINISHED}
    found |= {name: _told(name) for name in ("labels_unfinished", "model_unfinished")}
    for name in ("packed", "predictions", "evaluation"):
        found[f"{name}_unfinished"] = _told(name, f"{name}_unfinished")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        words = ["--resume", f"{GOLDENS}/search_unfinished", "--num-samples", "3"]
        code = script("tune/search.py")(words)
    found["search_unfinished"] = Outcome(code, shown.getvalue())
    return found


def _told(name: str, output: str | None = None) -> Outcome:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        code = run(name, output=output)
    return Outcome(code, shown.getvalue())
