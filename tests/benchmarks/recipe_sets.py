"""Images and labels of `bench_recipes.py`: prepared once, and damaged in known ways, which `VARIANTS` lists.

Training labels alone are damaged; models are chosen and judged by the labels of the validation rows as they are.
"""

import csv
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from faceattr.attributes import Attribute, AttributeSet
from faceattr.demo.faces import write_faces

UNKNOWN = -1
DRAWN = ("hat", "glasses", "facial_hair")
_NUM_DRAWN = {"train": 4_000, "val": 1_000}
_FAIRFACE_COLUMNS = {"age_group": "age", "gender": "gender", "race": "race"}


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images and labels of two splits.

    Attributes:
        classes: attribute -> names of its classes.
        images: split -> uint8 [n, 3, H, W].
        labels: split -> attribute -> int64 [n], UNKNOWN where there is none.
        scores: split -> attribute -> float32 [n] P(yes), or [n, C]; empty without soft labels.
        weights: split -> attribute -> float32 [n], weights of the scores.
        truth: attribute -> int64 [n], what the validation rows are judged by; empty: their labels.
    """

    classes: Mapping[str, tuple[str, ...]]
    images: Mapping[str, Tensor]
    labels: Mapping[str, Mapping[str, Tensor]]
    scores: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    weights: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    truth: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def attributes(self) -> AttributeSet:
        """As the product sees them: two classes named no and yes are binary."""
        return AttributeSet(
            attributes=tuple(
                Attribute(name=name) if self.is_binary(name) else Attribute(name=name, kind="multiclass", classes=names)
                for name, names in self.classes.items()
            )
        )

    def is_binary(self, name: str) -> bool:
        return self.classes[name] == ("no", "yes")


@dataclass(frozen=True)
class Variant:
    """What happens to the training labels, each on its own.

    Attributes:
        flipped: share that is replaced by another class.
        missing: share that is removed.
        doubt: a label is replaced by another class with a probability that is drawn for it from 0 to this; the labels
            are known to be so: each has the probabilities of the classes as its score.
    """

    flipped: float = 0.0
    missing: float = 0.0
    doubt: float = 0.0


VARIANTS = {
    "as given": Variant(),
    "10 % flipped": Variant(flipped=0.1),
    "50 % missing": Variant(missing=0.5),
    "doubtful": Variant(doubt=0.5),
}


def load_image_set(path: Path, *, num_train: int | None = None) -> ImageSet:
    """Reads what `prepare` wrote, with the first `num_train` training images, by default all."""
    about = json.loads((path / "about.json").read_text())
    images, labels = {}, {}
    for split in ("train", "val"):
        rows = slice(num_train if split == "train" else None)
        images[split] = torch.from_numpy(np.load(path / f"{split}.npy"))[rows]
        labels[split] = {name: torch.tensor(values)[rows] for name, values in about["labels"][split].items()}
    classes = {name: tuple(names) for name, names in about["classes"].items()}
    return ImageSet(classes=classes, images=images, labels=labels)


def vary(data: ImageSet, variant: Variant, *, seed: int) -> ImageSet:
    """Damages the training labels of a set."""
    generator = torch.Generator().manual_seed(5_000_000 + seed)
    labels, scores, weights = {}, {}, {}
    for name, truth in data.labels["train"].items():
        num_classes = len(data.classes[name])
        doubt = torch.rand(len(truth), generator=generator) * variant.doubt if variant.doubt else variant.flipped
        wrong = torch.rand(len(truth), generator=generator) < doubt
        other = (truth + torch.randint(1, num_classes, truth.shape, generator=generator)) % num_classes
        label = torch.where(wrong, other, truth)
        gone = torch.rand(len(truth), generator=generator) < variant.missing
        labels[name] = torch.where(gone, UNKNOWN, label)
        if isinstance(doubt, Tensor):
            score = (doubt / (num_classes - 1))[:, None].repeat(1, num_classes)
            score[torch.arange(len(label)), label] = 1 - doubt
            scores[name] = score[:, 1] if data.is_binary(name) else score
            weights[name] = torch.ones(len(label))
    soft = {"scores": {"train": scores}, "weights": {"train": weights}} if scores else {}
    return replace(data, labels={**data.labels, "train": labels}, **soft)


def keep_complete_rows(data: ImageSet) -> ImageSet:
    """Drops the training rows that lack a label: what a loss that cannot leave one out makes one do."""
    known = torch.stack([values != UNKNOWN for values in data.labels["train"].values()]).all(0)
    labels = {name: values[known] for name, values in data.labels["train"].items()}
    images = {**data.images, "train": data.images["train"][known]}
    return replace(data, images=images, labels={**data.labels, "train": labels})


def prepare(folder: Path, paths: dict[str, list[Path]], labels: dict[str, dict[str, list[str]]], side_px: int) -> Path:
    """Decodes and shrinks once; all runs read the same arrays."""
    folder.mkdir(parents=True)
    classes = {name: sorted({*labels["train"][name], *labels["val"][name]}) for name in labels["train"]}
    for split, files in paths.items():
        pixels = np.empty((len(files), 3, side_px, side_px), np.uint8)
        for number, path in enumerate(files):
            with Image.open(path) as image:
                small = image.convert("RGB").resize((side_px, side_px), Image.Resampling.BICUBIC)
            pixels[number] = np.asarray(small).transpose(2, 0, 1)
        np.save(folder / f"{split}.npy", pixels)
    indices = {
        split: {name: [classes[name].index(value) for value in values] for name, values in columns.items()}
        for split, columns in labels.items()
    }
    (folder / "about.json").write_text(json.dumps({"classes": classes, "labels": indices}))
    return folder


def prepare_fairface(folder: Path, source: Path, side_px: int) -> Path:
    paths, labels = {}, {}
    for split in ("train", "val"):
        with (source / f"fairface_label_{split}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        paths[split] = [source / row["file"] for row in rows]
        labels[split] = {name: [row[column] for row in rows] for name, column in _FAIRFACE_COLUMNS.items()}
    return prepare(folder, paths, labels, side_px)


def prepare_drawn(folder: Path, side_px: int, processes: int, *, drawn_px: int | None = None) -> Path:
    """Draws faces with sides of `drawn_px` (by default of `side_px`) and prepares them."""
    size_px = drawn_px or side_px
    paths, labels = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed, (split, count) in enumerate(_NUM_DRAWN.items()):
            truth = write_faces(Path(scratch) / split, count, 7_000_000 + seed, size_px=size_px, processes=processes)
            with truth.open(newline="") as file:
                rows = list(csv.DictReader(file))
            paths[split] = [truth.parent / row["image_path"] for row in rows]
            labels[split] = {name: [("no", "yes")[int(row[name])] for row in rows] for name in DRAWN}
        return prepare(folder, paths, labels, side_px)
