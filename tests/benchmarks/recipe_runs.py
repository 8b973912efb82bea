"""One training of `bench_recipes.py`: the plain recipe, or ours with its defaults, on images that are in memory.

Both see the same images, network and split, and are judged by scikit-learn on the validation rows at their best epoch:
ours at the one that its own default rule keeps, the plain recipe at the one with the best mean macro F1.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.overrides import override
from faceattr.config.train import ModelConfig, TrainConfig
from faceattr.models.augment.draws import image_seed
from faceattr.models.augment.train import TrainTransform
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.transforms import EvalTransform, Normalise
from faceattr.training.assembly import build_model, build_stages
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.recipe import resolve_recipe
from faceattr.training.targets import Batch, Targets

PLAIN_BATCH = 32
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
class ImageSet:
    """Images and labels of two splits.

    Attributes:
        classes: attribute -> names of its classes.
        images: split -> uint8 [n, 3, H, W].
        labels: split -> attribute -> int64 [n].
    """

    classes: Mapping[str, tuple[str, ...]]
    images: Mapping[str, Tensor]
    labels: Mapping[str, Mapping[str, Tensor]]

    @property
    def attributes(self) -> AttributeSet:
        """As the product sees them: two classes named no and yes are binary."""
        return AttributeSet(
            attributes=tuple(
                Attribute(name=name)
                if classes == ("no", "yes")
                else Attribute(name=name, kind="multiclass", classes=classes)
                for name, classes in self.classes.items()
            )
        )


def load_image_set(path: Path) -> ImageSet:
    """Reads what `bench_recipes.py` prepared; pixels stay on disk until they are used."""
    about = json.loads((path / "about.json").read_text())
    images, labels = {}, {}
    for split in ("train", "val"):
        images[split] = torch.from_numpy(np.load(path / f"{split}.npy"))
        labels[split] = {name: torch.tensor(values) for name, values in about["labels"][split].items()}
    classes = {name: tuple(names) for name, names in about["classes"].items()}
    return ImageSet(classes=classes, images=images, labels=labels)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to train.

    Attributes:
        recipe: `plain LR`, `ours`, `before`, or `ours` and settings in brackets.
        data: folder of an image set.
        epochs: passes.
        seed: of weights, order and views.
        backbone: timm name.
        size_px: side that the network sees.
        device: that it runs on.
        settings: keys of the train config that differ from the defaults.
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
    checkpoint: Path | None = None
    keep: Path | None = None


def train(run: Run) -> dict[str, dict[str, float]]:
    """Trains, and returns attribute -> macro_f1, accuracy on the validation rows."""
    torch.set_num_threads(1)
    data = load_image_set(run.data)
    if run.recipe.startswith("plain"):
        return _train_plain(run, data, lr=float(run.recipe.split()[1]))
    return _train_ours(run, data)


def _judge(outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    figures = {}
    for name, values in outputs.items():
        predicted = (values[:, 0] > 0).long() if values.shape[1] == 1 else values.argmax(1)
        truth = labels[name].numpy()
        figures[name] = {
            "macro_f1": float(f1_score(truth, predicted.numpy(), average="macro", zero_division=0)),
            "accuracy": float(accuracy_score(truth, predicted.numpy())),
        }
    return figures


def _train_plain(run: Run, data: ImageSet, *, lr: float) -> dict[str, dict[str, float]]:
    """Adam at one rate, the sum of cross entropies, no augmentation: what one writes first."""
    torch.manual_seed(run.seed)
    device = torch.device(run.device)
    backbone = timm.create_model(run.backbone, pretrained=False, num_classes=0)
    heads = nn.ModuleDict(
        {name: nn.Linear(backbone.num_features, len(classes)) for name, classes in data.classes.items()}
    )
    network = nn.ModuleDict({"backbone": backbone, "heads": heads}).to(device)
    preprocessing = _build_preprocessing(run, data)
    plain, normalise = EvalTransform(preprocessing), Normalise(preprocessing).to(device)
    images = {split: plain(images).to(device) for split, images in data.images.items()}
    labels = {name: values.to(device) for name, values in data.labels["train"].items()}
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)
    best: dict[str, dict[str, float]] = {}
    for _ in range(run.epochs):
        network.train()
        for rows in torch.randperm(len(images["train"])).to(device).split(PLAIN_BATCH):
            features = backbone(normalise(images["train"][rows]))
            loss = torch.stack(
                [nn.functional.cross_entropy(heads[name](features), labels[name][rows]) for name in heads]
            ).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            features = torch.cat([backbone(normalise(part)) for part in images["val"].split(500)])
            figures = _judge({name: heads[name](features).cpu() for name in heads}, data.labels["val"])
        best = max((best, figures), key=_mean_f1)
    return best


def _mean_f1(figures: Mapping[str, Mapping[str, float]]) -> float:
    return sum(each["macro_f1"] for each in figures.values())


def _build_preprocessing(run: Run, data: ImageSet) -> Any:
    config = TrainConfig(
        data=("memory",),
        output="memory",
        model=ModelConfig(backbone=run.backbone, pretrained=False, image_size=run.size_px, crop_fraction=1.0),
    )
    return build_model(config, data.attributes, counts=_count(data)).backbone.preprocessing


def _train_ours(run: Run, data: ImageSet) -> dict[str, dict[str, float]]:
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
    batch_size = config.feed.batch_size
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
    return _judge({name: torch.cat(values) for name, values in outputs.items()}, data.labels["val"])


class _Feed:
    def __init__(self, data: ImageSet, model: MultiAttributeModel, config: TrainConfig, batch_size: int) -> None:
        preprocessing = model.backbone.preprocessing
        self._data, self._batch_size, self._seed = data, batch_size, config.seed
        self._view = TrainTransform(preprocessing, config.augmentation)
        self._val = EvalTransform(preprocessing)(data.images["val"])

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
        found = {}
        for name, values in self._data.labels[split].items():
            value = values[rows]
            is_binary = self._data.classes[name] == ("no", "yes")
            found[name] = Targets(
                value=value.float() if is_binary else value,
                known=torch.ones(len(rows), dtype=torch.bool),
                weight=torch.ones(len(rows)),
            )
        return found


def _count(data: ImageSet) -> dict[str, Tensor]:
    return {
        name: torch.bincount(values, minlength=len(data.classes[name])).double()
        for name, values in data.labels["train"].items()
    }
