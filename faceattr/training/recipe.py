"""Resolves settings that are `auto`, depending on what a training starts from; the rules are only here.

    batch size     from the number of steps that a network from random weights would get
    rate           from the optimizer, the backbone's family, the batch size, and whether the backbone is pretrained
    schedule       warm-up and moving average from the same, and the number of epochs
    augmentation   from how often the training sees each image: a short training from random weights needs plain images
    crop           none: crops of faces would cut off hats and beards at the borders

A resumed run keeps the values it started with, even if these rules have changed. The measurements behind the rules:
`tests/benchmarks/bench_recipes.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from faceattr.config.augmentation import ASPECT, Augmentation
from faceattr.config.fit import AUTO_OPTIM, LossConfig, OptimConfig, OptimSettings
from faceattr.config.train import ModelConfig, TrainConfig

Start = Literal["random", "trained"]
Family = Literal["convolutions", "transformer"]

_TRANSFORMERS = (
    *("vit", "deit", "beit", "eva", "swin", "cait", "xcit", "pit_", "tnt_", "twins", "volo", "crossvit", "mvit"),
    *("former", "hiera", "siglip", "aimv2", "dinov", "nest_", "maxvit", "maxxvit", "coat"),
)
# Peak learning rates for a batch of 64.
_RATES: dict[tuple[str, Start, Family], float] = {
    ("adam", "random", "convolutions"): 4e-3,
    ("adam", "random", "transformer"): 1e-3,
    ("adam", "trained", "convolutions"): 1e-3,
    ("adam", "trained", "transformer"): 2e-4,
    ("sgd", "random", "convolutions"): 0.1,
    ("sgd", "random", "transformer"): 0.05,
    ("sgd", "trained", "convolutions"): 0.01,
    ("sgd", "trained", "transformer"): 0.005,
}
_HEADS_ALONE = {"adam": 1e-3, "sgd": 0.05}
_LAYER_DECAY: dict[Family, float] = {"convolutions": 0.9, "transformer": 0.75}
_EMA_DECAY = 0.999
# Effective values of later fields in runs from before they existed.
_BEFORE = {
    each.name: each.metadata["before"]
    for group in (LossConfig, ModelConfig)
    for each in fields(group)
    if "before" in each.metadata
}
# Number of steps after which a network from random weights has learnt most of what it can.
_FEW_STEPS = 5_000
# Images per batch, and where a network from random weights would get so few steps that twice as many teach it more.
# Measured at 375 and 750 steps of 64, where 32 is better, and at 2,500, where 64 is better than a plain recipe of 32.
_BATCH_SIZE = 64
_SMALL_BATCH_SIZE = 32
_SMALL_BATCH_STEPS = 1_500


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A config without `auto`, and the reasons for its values.

    Attributes:
        config: config with a value in place of every `auto`, a new run's precision excepted.
        lines: readable lines on learning rate, schedule and augmentation.
    """

    config: TrainConfig
    lines: tuple[str, str, str]


def resolve_recipe(config: TrainConfig, *, num_images: int, begun: Mapping[str, Any] | None = None) -> Recipe:
    """Replaces `auto` settings by values, except a new run's precision: the devices decide it.

    Args:
        config: config as given.
        num_images: number of images in the training split.
        begun: group -> field -> value of the run to resume, from its fingerprint; `auto` settings are taken from it. A
            field that did not exist then gets the value that was in effect.
    """
    start, family = find_start(config), find_family(config.model.backbone)
    config = _settle_batch_size(config, start, num_images, begun)
    optim = {each.name: getattr(config.optim, each.name) for each in fields(OptimSettings)}
    chosen = _choose_optim(config, start, family)
    strength = _choose_strength(config, start, num_images)
    aspect: float | None = None
    crop: float | Literal["auto", "backbone"] = "backbone" if config.model.checkpoint is not None else 1.0
    chosen_loss: dict[str, Any] = {"normalised": "units", "class_weights": "root"}
    if begun is not None:
        chosen |= {name: begun["optim"][name] for name in AUTO_OPTIM if name in begun.get("optim", {})}
        if optim["precision"] == "auto":
            optim["precision"] = begun.get("optim", {}).get("precision", "float32")
        strength = float(begun.get("augment", {}).get("strength", strength))
        aspect = float(begun.get("augment", {}).get("aspect", ASPECT))
        crop = begun.get("model", {}).get("crop_fraction", _BEFORE["crop_fraction"])
        chosen_loss = {"normalised": _BEFORE["normalised"]} | {
            name: value for name, value in begun.get("loss", {}).items() if name in chosen_loss
        }
    optim |= {name: chosen[name] for name in AUTO_OPTIM if optim[name] == "auto"}
    augment = {each.name: getattr(config.augment, each.name) for each in fields(config.augment)}
    augment |= {"strength": strength} if augment["strength"] == "auto" else {}
    if augment["aspect"] == "auto":
        augment["aspect"] = round(ASPECT * augment["strength"], 4) if aspect is None else aspect
    loss = {name: value for name, value in chosen_loss.items() if getattr(config.loss, name) == "auto"}
    model = config.model
    resolved = replace(
        config,
        model=replace(model, crop_fraction=crop) if model.crop_fraction == "auto" else model,
        optim=OptimConfig(**optim),
        augment=Augmentation(**augment),
        loss=replace(config.loss, **loss),
    )
    origin = "as the run began" if begun is not None else f"{family} from {start} weights"
    return Recipe(config=resolved, lines=_describe(config, resolved, num_images=num_images, origin=origin))


def _settle_batch_size(
    config: TrainConfig, start: Start, num_images: int, begun: Mapping[str, Any] | None
) -> TrainConfig:
    if config.feed.batch_size != "auto":
        return config
    size, workers = _BATCH_SIZE, config.workers.num_workers
    if begun is not None:
        size = int(begun.get("feed", {}).get("batch_size", size))
    else:
        num_steps = config.optim.epochs * num_images / (_BATCH_SIZE * config.optim.accumulation)
        if start == "random" and not _trains_heads_alone(config) and num_steps < _SMALL_BATCH_STEPS:
            size = _SMALL_BATCH_SIZE
        size = -(-size // workers) * workers  # no worker with more images than another
    return replace(config, feed=replace(config.feed, batch_size=size))


def find_start(config: TrainConfig) -> Start:
    """Returns whether the backbone is already trained (published or earlier weights) or starts from random weights."""
    return "trained" if config.model.pretrained or config.model.checkpoint is not None else "random"


def find_family(backbone: str) -> Family:
    """Returns a backbone's family by its name; CLIP's vision towers, from folders or the hub, are transformers."""
    name = backbone.lower()
    is_clip = name.startswith("hf:") or "/" in name
    return "transformer" if is_clip or any(part in name for part in _TRANSFORMERS) else "convolutions"


def _choose_optim(config: TrainConfig, start: Start, family: Family) -> dict[str, Any]:
    optim, adaptive = config.optim, config.optim.name != "sgd"
    kind = "adam" if adaptive else "sgd"
    batch = config.feed.settled_batch_size * optim.accumulation / 64
    heads_alone = _trains_heads_alone(config)
    rate = _HEADS_ALONE[kind] if heads_alone else _RATES[kind, start, family]
    fresh = start == "random" and not heads_alone
    # A warm-up must end before the first of several stages ends.
    warmup = min(5.0, optim.epochs / (12 if family == "convolutions" else 6)) if fresh else min(0.5, optim.epochs / 12)
    return {
        # Adam's steps do not scale with the gradient; their noise falls with the square root of the batch size.
        "lr": _round(rate * (math.sqrt(batch) if adaptive else batch)),
        "weight_decay": 0.05 if optim.name == "adamw" and not heads_alone else 1e-4,
        "layer_decay": 1.0 if fresh or heads_alone else _LAYER_DECAY[family],
        "warmup_epochs": round(warmup, 2),
        "ema_decay": _EMA_DECAY if fresh and not optim.swa_epochs else None,
    }


def _trains_heads_alone(config: TrainConfig) -> bool:
    return config.freeze.depth in ("all", -1) and config.freeze.schedule == "constant" and not config.lora.rank


def _choose_strength(config: TrainConfig, start: Start, num_images: int) -> float:
    if start == "trained":
        return 1.0
    # 1 at 40 passes over 10,000 images. The flip needs a strength above 0.
    strength = config.optim.epochs / 40 * math.sqrt(10_000 / max(1, num_images))
    return round(min(1.0, max(0.1, strength)), 2)


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def _describe(given: TrainConfig, config: TrainConfig, *, num_images: int, origin: str) -> tuple[str, str, str]:
    optim, batch = config.optim, config.feed.settled_batch_size * config.optim.accumulation
    is_random = find_start(config) == "random"

    def why(value: object, reason: str) -> str:
        return reason if value == "auto" else "as given"

    rate = (
        f"{optim.lr:g} ({why(given.optim.lr, f'{optim.name}, batch {batch}, {origin}')}), weight decay "
        f"{optim.weight_decay:g}, layer decay {optim.layer_decay:g}"
    )
    steps = optim.epochs * (num_images // config.feed.settled_batch_size) // optim.accumulation
    hint = f"; {steps:,} steps are few for random weights, more epochs learn more"
    schedule = (
        f"{optim.schedule} over {optim.epochs} epochs, warm-up {optim.warmup_epochs:g}, average of weights "
        f"{'none' if optim.ema_decay is None else f'{optim.ema_decay:g}'}"
        f" ({why(given.optim.warmup_epochs, origin)}){hint if is_random and steps < _FEW_STEPS else ''}"
    )
    seen = f"{optim.epochs} passes over {num_images:,} images, {origin}"
    crop = config.model.crop_fraction
    view = "the backbone's own crop" if crop == "backbone" else f"{crop:g} of the image's side"
    augmentation = f"strength {config.augment.strength:g} ({why(given.augment.strength, seen)}); evaluation sees {view}"
    return f"rate          {rate}", f"schedule      {schedule}", f"augmentation  {augmentation}"
