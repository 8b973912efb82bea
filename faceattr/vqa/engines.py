"""The families of models that can label: one row per `model_type` of config.json.

To add a family, add a folder next to `blip/` and a row in `ENGINES`. Functions are given by name, so that a driver,
which only sends them to its workers, imports neither torch nor transformers.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faceattr.config import LabelConfig, StorageConfig
from faceattr.config.checks import flag_name
from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.checkpoints import CHECKPOINT_CONFIG, CheckpointFacts, read_checkpoint_config, resolve_checkpoint
from faceattr.vqa.endpoint.address import ENDPOINT, is_endpoint
from faceattr.vqa.questions import QuestionSet


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a family of models is inspected, fed and built.

    Attributes:
        example: hub id of a model of the family, for error texts.
        inspect: `module:function`, folder -> CheckpointFacts; checks the folder without loading weights. That of an
            endpoint takes the arguments of `inspect_checkpoint`.
        check: `module:function`; takes folder, questions and `question_start`, and raises ConfigError where the model
            cannot be asked. None where that takes the model's own processor: an actor finds out.
        resize: `module:function`, decoded pixels uint8 [H, W, 3] and `CheckpointFacts.resizing` -> uint8 [S, S, 3].
        build: `module:function`; builds a `faceattr.vqa.scorer.Scorer` in the process that will use it: the fast one,
            compared with the plain path of transformers, or that path itself with `engine="hf"`.
        packages: distributions whose version can change a score.
        options: field of `LabelConfig` -> the values that the family takes, where it does not take all.
        has_mass: whether the answers' likelihoods have a meaning beyond their shares; if not, every mass is null.
        reads_prompts: whether it scores an attribute's `prompts` in place of its questions.
        computes_here: whether an actor computes, on a GPU if there is one; if not, it takes none by default.
    """

    example: str
    inspect: str
    resize: str
    build: str
    packages: tuple[str, ...]
    options: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    has_mass: bool = True
    reads_prompts: bool = False
    computes_here: bool = True
    check: str | None = None


_PACKAGES = ("torch", "transformers", "tokenizers", "pillow", "simplejpeg")
_CONTRASTIVE: dict[str, Any] = {
    "inspect": "faceattr.vqa.contrastive.inspect:inspect_contrastive",
    "resize": "faceattr.vqa.contrastive.preprocess:frame_rgb",
    "build": "faceattr.vqa.contrastive.build:build_scorer",
    "packages": (*_PACKAGES, "torchvision"),
    # One text for an answer: no paraphrases could disagree.
    "options": {
        "question_start": ("cls",),
        "precision": ("auto", "float32", "float16"),
        "compile": ("auto", "off"),
        "agreement": (False,),
    },
    "reads_prompts": True,
}
_DECODER: dict[str, Any] = {
    "inspect": "faceattr.vqa.decoder.inspect:inspect_decoder",
    "resize": "faceattr.vqa.decoder.preprocess:resize_square",
    "build": "faceattr.vqa.decoder.build:build_scorer",
    "packages": (*_PACKAGES, "torchvision", "jinja2"),
    "options": {
        "question_start": ("cls",),
        "precision": ("auto", "float32", "float16", "bfloat16"),
        "compile": ("auto", "off"),
    },
}

ENGINES = {
    "blip": Engine(
        example="Salesforce/blip-vqa-base",
        inspect="faceattr.vqa.blip.inspect:inspect_folder",
        check="faceattr.vqa.blip.check:check_questions",
        resize="faceattr.vqa.blip.preprocess:resize_rgb",
        build="faceattr.vqa.blip.build:build_scorer",
        packages=_PACKAGES,
    ),
    "clip": Engine(example="openai/clip-vit-large-patch14", has_mass=False, **_CONTRASTIVE),
    "siglip": Engine(example="google/siglip2-base-patch16-224", **_CONTRASTIVE),
    "smolvlm": Engine(example="HuggingFaceTB/SmolVLM2-500M-Video-Instruct", **_DECODER),
    "idefics3": Engine(example="HuggingFaceTB/SmolVLM-256M-Instruct", **_DECODER),
    "internvl": Engine(example="OpenGVLab/InternVL3-1B-hf", **_DECODER),
    "qwen2_vl": Engine(example="Qwen/Qwen2-VL-2B-Instruct", **_DECODER),
    "qwen2_5_vl": Engine(example="Qwen/Qwen2.5-VL-3B-Instruct", **_DECODER),
    "qwen3_vl": Engine(example="Qwen/Qwen3-VL-2B-Instruct", **_DECODER),
}
"""`model_type` of config.json -> its engine."""

SERVED = Engine(
    example="openai:http://127.0.0.1:8000/v1#NAME",
    inspect="faceattr.vqa.endpoint.facts:inspect_endpoint",
    resize="faceattr.vqa.endpoint.resize:pad_rgb",
    build="faceattr.vqa.endpoint.scorer:build_scorer",
    packages=("pillow", "simplejpeg", "urllib3"),
    # The server decides how its model computes.
    options={
        "engine": ("packed",),
        "question_start": ("cls",),
        "precision": ("auto",),
        "compile": ("auto", "off"),
    },
    computes_here=False,
)
"""The engine of models that a server serves, `openai:URL#NAME`, whatever their family."""

_REFUSED = {
    "siglip2": (
        "SigLIP 2 of the kind NaFlex takes patches of images of any shape, which no engine supports; use a SigLIP 2 "
        "checkpoint of one image size, such as google/siglip2-base-patch16-224"
    ),
}


def inspect_checkpoint(
    model: str,
    *,
    revision: str | None = None,
    storage: StorageConfig | None = None,
    questions: QuestionSet | None = None,
    question_start: str = "cls",
) -> CheckpointFacts:
    """Finds and checks a checkpoint, and whether it can be asked the questions, without loading its weights.

    Args:
        model: as in `resolve_checkpoint`, or an endpoint.
        revision: branch, tag or commit hash; for hub ids only.
        storage: how object storage is reached, if the model is a URI.
        questions: what it is to be asked; None to check the checkpoint alone.
        question_start: as in `LabelConfig`.

    Raises:
        ConfigError, ModelError: it cannot be found, no engine supports it, or it cannot be asked a question.
    """
    facts: CheckpointFacts
    if is_endpoint(model):
        facts = pkgutil.resolve_name(SERVED.inspect)(model, revision, storage)
        return facts
    folder = resolve_checkpoint(model, revision, storage=storage)
    config = read_checkpoint_config(folder)
    family = str(config.get("model_type"))
    if family in _REFUSED:
        raise ModelError(f"{folder / CHECKPOINT_CONFIG}: {_REFUSED[family]}")
    engine = ENGINES.get(family)
    if engine is None:
        known = ", ".join(f"{name} ({each.example})" for name, each in ENGINES.items())
        raise ModelError(
            f"{folder / CHECKPOINT_CONFIG}: expected a model of one of the families {known}, found "
            f"model_type={config.get('model_type')!r} architectures={config.get('architectures')}"
        )
    facts = pkgutil.resolve_name(engine.inspect)(folder)
    if questions is not None and engine.check is not None:
        pkgutil.resolve_name(engine.check)(folder, questions, question_start)
    return facts


def find_engine(model_type: str) -> Engine:
    """Returns the engine of a checkpoint, or of a served model, by `CheckpointFacts.model_type`."""
    return SERVED if model_type == ENDPOINT else ENGINES[model_type]


def check_options(config: LabelConfig, model_type: str) -> None:
    """Raises ConfigError if a flag has a value that the model's family does not take."""
    for name, allowed in find_engine(model_type).options.items():
        found = getattr(config, name)
        if found not in allowed:
            values = " or ".join(map(str, allowed))
            raise ConfigError(f"--{flag_name(name)}: expected {values} for a {model_type} model, found {found}")
