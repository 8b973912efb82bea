"""The table of models that can label: licence, size, work, speed, and what is known of them on faces.

It is `models.yaml`; `faceattr models` prints it, `faceattr plan --model` calculates with it, and docs/engines.md shows
it. What is not known is null there, and said so here: `not counted`, `not measured`, `nothing known`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import yaml

from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One model.

    Attributes:
        family: `model_type` of its config.json, by which its engine is found.
        licence: its licence, as its page on the hub or its repository says.
        parameters_m: parameters in millions, both towers or all parts.
        size_px: side of the images that it takes.
        gflop_image: GFLOP an image, counted from its sizes; None if it was not.
        gflop_question: GFLOP for each question about it; 0 if questions cost nothing.
        images_per_s: images per second on 2 CPU cores; None if it was not measured.
        measured: where that figure comes from.
        faces: what is known of its labels of faces; None if nothing is.
        faces_source: who says so.
    """

    family: str
    licence: str
    parameters_m: float
    size_px: int
    gflop_image: float | None
    gflop_question: float | None
    images_per_s: float | None = None
    measured: str | None = None
    faces: str | None = None
    faces_source: str | None = None

    @property
    def weights_gb(self) -> float:
        """Memory of the weights in float32, GB; half of it in half precision."""
        return self.parameters_m * 4 / 1e3


@lru_cache(maxsize=1)
def load_models() -> Mapping[str, ModelEntry]:
    """Reads the package's table: hub id to entry, in order."""
    content = yaml.safe_load(resources.files("faceattr.planning").joinpath("models.yaml").read_text("utf-8"))
    return {name: ModelEntry(**entry) for name, entry in content["models"].items()}


def find_model(name: str) -> ModelEntry:
    """Returns the entry of a model. Raises ConfigError if the table has none."""
    models = load_models()
    if name not in models:
        raise ConfigError(
            f"--model: expected one of {', '.join(models)}, found {name!r}. For another model of one of their "
            "families, give the one that is nearest in size, and --gpu-rate with what --dry-run measures"
        )
    return models[name]


MODEL_COLUMNS = ("model", "licence", "parameters", "px", "GFLOP an image", "images/s, 2 cores", "weights", "on faces")


def model_rows(models: Mapping[str, ModelEntry]) -> list[tuple[str, ...]]:
    """Returns the table's cells, one row a model, in the order of `MODEL_COLUMNS`."""
    return [
        (
            name,
            each.licence,
            f"{each.parameters_m:,.0f} M",
            str(each.size_px),
            _describe_work(each),
            "not measured" if each.images_per_s is None else f"{each.images_per_s:.2g}",
            f"{each.weights_gb:.1f} GB",
            "nothing known" if each.faces is None else f"{each.faces} ({each.faces_source})",
        )
        for name, each in models.items()
    ]


def _describe_work(entry: ModelEntry) -> str:
    if entry.gflop_image is None:
        return "not counted"
    question = f" + {entry.gflop_question:.1f} a question" if entry.gflop_question else ""
    return f"{entry.gflop_image:.1f}{question}"
