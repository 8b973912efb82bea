"""One training of `bench_recipes.py`: a peer's recipe (`recipe_plain.py`), or ours with its defaults, in memory.

All see the same images, network and split, and are judged on the validation rows at their best epoch: ours at the one
that its own default rule keeps, the peers at the one with the best mean macro F1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceattr.config.overrides import override
from faceattr.config.train import ModelConfig, TrainConfig
from faceattr.models.augment.draws import image_seed
from faceattr.models.augment.train import TrainTransform
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.transforms import EvalTransform, Normalise
from faceattr.training.assembly import build_model, build_stages
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.losses.class_weights import LabelTotals
from faceattr.training.recipe import resolve_recipe
from faceattr.training.targets import Batch, Targets
from tests.benchmarks.recipe_distil import STUDENTS, learn_from, read_teacher_figures
from tests.benchmarks.recipe_judge import Figures, judge
from tests.benchmarks.recipe_plain import find_recipe, train_plain
from tests.benchmarks.recipe_sets import UNKNOWN, VARIANTS, ImageSet, keep_complete_rows, load_image_set, vary

# What `pipelines/train.py` did without flags before recipes were chosen by the start.
BEFORE = {
    "optim.lr": 1e-4,
    "optim.weight_decay": 1e-4,
    "optim.layer_decay": 1.0,
    "optim.warmup_epochs": 0.0,
    "optim.ema_decay": None,
    "augment.strength": 1.0,
    "model.crop_fraction": "backbone",
    "loss.normalised": "all",
    "loss.class_weights": "none",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to train.

    Attributes:
        recipe: `ours` or `before`, settings in brackets after it, or the name of a peer's recipe; with a teacher, a
            name of `STUDENTS`, or `teacher`, which is judged itself.
        data: folder of an image set.
        epochs: passes.
        seed: of weights, order and views.
        backbone: timm name.
        size_px: side that the network sees.
        num_train: number of training images, the first ones; None: all.
        device: that it runs on.
        settings: keys of the train config that differ from the defaults.
        variant: what happens to the training labels, of `VARIANTS`.
        complete: whether the rows that lack a label are dropped; the peers always drop them.
        teacher: labels of a teacher, which take the place of the set's own.
        checkpoint: a model folder to go on from.
        keep: where the model is saved.
    """

    recipe: str
    data: Path
    epochs: int
    seed: int
    backbone: str
    size_px: int
    device: str
    settings: Mapping[str, Any]
    num_train: int | None = None
    variant: str = "as given"
    complete: bool = False
    teacher: Path | None = None
    checkpoint: Path | None = None
    keep: Path | None = None


def train(run: Run) -> Figures:
    """Trains, and returns the figures of the validation rows."""
    torch.set_num_threads(1)
    data = load_image_set(run.data, num_train=run.num_train)
    if run.teacher is not None:
        if run.recipe == "teacher":
            return read_teacher_figures(data, run.teacher)
        student = STUDENTS[run.recipe]
        return train_ours(replace(run, settings=student.settings), learn_from(data, run.teacher, student))
    data = vary(data, VARIANTS[run.variant], seed=run.seed)
    if run.recipe.startswith(("ours", "before")):
        return train_ours(run, keep_complete_rows(data) if run.complete else data)
    return train_plain(
        find_recipe(run.recipe),
        data,
        _build_preprocessing(run, data),
        backbone=run.backbone,
        epochs=run.epochs,
        seed=run.seed,
        device=torch.device(run.device),
    )


def _build_preprocessing(run: Run, data: ImageSet) -> Preprocessing:
    config = TrainConfig(
        data=("memory",),
        output="memory",
        model=ModelConfig(backbone=run.backbone, pretrained=False, image_size=run.size_px, crop_fraction=1.0),
    )
    return build_model(config, data.attributes, counts=_count(data)).backbone.preprocessing


def train_ours(run: Run, data: ImageSet) -> Figures:
    """Our `fit` with what `pipelines/train.py` would choose, but for the way the images come."""
    given = TrainConfig(
        data=("memory",),
        output="memory",
        model=ModelConfig(
            backbone=run.backbone,
            pretrained=False,
            image_size=run.size_px,
            checkpoint=None if run.checkpoint is None else str(run.checkpoint),
        ),
        seed=run.seed,
    )
    given = override(given, {"optim.epochs": run.epochs, **run.settings})
    num_images = len(data.images["train"])
    config = resolve_recipe(given, num_images=num_images).config
    counts = _count(data)
    model = build_model(config, data.attributes, counts=counts)
    batch_size = config.feed.settled_batch_size
    feed = _Feed(data, model, config, batch_size)
    fit(
        model,
        EpochBatches(train=feed.train_batches, val=feed.val_batches, num_train=num_images // batch_size),
        config.fit,
        counts=counts,
        ranks=Ranks(device=torch.device(run.device)),
        stages=build_stages(config, model),
    )
    if run.keep is not None:
        model.save_pretrained(run.keep)
    device = torch.device(run.device)
    normalise = Normalise(model.backbone.preprocessing).to(device)
    model.to(device).eval()
    outputs: dict[str, list[Tensor]] = {name: [] for name in data.classes}
    with torch.no_grad():
        for batch in feed.val_batches():
            for name, values in model(normalise(batch.inputs.to(device))).items():
                outputs[name].append(values.float().cpu())
    return judge({name: torch.cat(values) for name, values in outputs.items()}, data)


class _Feed:
    def __init__(self, data: ImageSet, model: MultiAttributeModel, config: TrainConfig, batch_size: int) -> None:
        preprocessing = model.backbone.preprocessing
        self._data, self._batch_size, self._seed = data, batch_size, config.seed
        self._view = TrainTransform(preprocessing, config.augmentation)
        self._val = EvalTransform(preprocessing)(data.images["val"])
        self._all = {split: _read_targets(data, split) for split in data.labels}

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        images = self._data.images["train"]
        generator = torch.Generator().manual_seed(image_seed(self._seed, epoch=epoch, row=-1))
        order = torch.randperm(len(images), generator=generator)
        for rows in order[: len(order) // self._batch_size * self._batch_size].split(self._batch_size):
            seeds = [image_seed(self._seed, epoch=epoch, row=row) for row in rows.tolist()]
            views = self._view(list(images[rows]), seeds=seeds)
            yield Batch(inputs=views, targets=self._targets("train", rows))

    def val_batches(self) -> Iterator[Batch]:
        for rows in torch.arange(len(self._val)).split(500):
            yield Batch(inputs=self._val[rows], targets=self._targets("val", rows))

    def _targets(self, split: str, rows: Tensor) -> dict[str, Targets]:
        return {name: each.take(rows) for name, each in self._all[split].items()}


def _read_targets(data: ImageSet, split: str) -> dict[str, Targets]:
    """As `faceattr.training.targets` reads them from a table."""
    scores, weights = data.scores.get(split, {}), data.weights.get(split, {})
    found = {}
    for name, values in data.labels[split].items():
        value = values.clamp(min=0)
        found[name] = Targets(
            value=value.float() if data.is_binary(name) else value,
            known=values != UNKNOWN,
            weight=weights.get(name, torch.ones(len(values))),
            score=scores.get(name),
        )
    return found


def _count(data: ImageSet) -> dict[str, Tensor]:
    totals = LabelTotals(data.attributes)
    totals.add(_read_targets(data, "train"))
    return totals.counts
