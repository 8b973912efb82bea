"""The recipes of the replaced systems, and the plain one, in torch, by the settings that docs/migration.md lists.

What is compared is the recipe: each trains the network of the benchmark from the same random weights for as many
epochs, with heads of classes in place of its own ages and persons. Three of the five froze published weights, wholly or
in part; there are none here, and frozen random weights learn nothing, so everything trains. Rates of 1e-5 to 1e-4 were
meant for published weights: each recipe is tried with its own rate and with one that suits random weights (`at 3e-3`).
The epoch with the best macro F1 on the rows that judge it is kept, to the advantage of these recipes over ours.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceattr.config.augmentation import Augmentation
from faceattr.models.augment.draws import image_seed
from faceattr.models.augment.train import TrainTransform
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import EvalTransform, Normalise
from tests.benchmarks.recipe_judge import Figures, judge, mean_f1
from tests.benchmarks.recipe_sets import ImageSet, keep_complete_rows

_BATCH = 32
_CLEAR = "label"


@dataclass(frozen=True, kw_only=True)
class PlainRecipe:
    """Adam on a weighted sum of cross entropies.

    Attributes:
        lr: learning rate.
        late_lr: learning rate of the second half, if another one.
        weight_decay: as in `torch.optim.Adam`.
        hidden: units of a head's hidden layer; 0: heads are linear.
        activation: after the hidden layer.
        dropout: after the activation.
        main: weight of the main attribute's loss: of `label` (none of the others is present), which is added where all
            attributes are binary, else of the first one.
        aux: weight of the other losses.
        plateau: lowers the rate to a tenth when the score has not risen for three epochs.
        views: random views of the training images; None: images as they are.
        balanced: attributes whose combinations of classes are drawn equally often, where the set has them.
    """

    lr: float
    late_lr: float | None = None
    weight_decay: float = 0.0
    hidden: int = 0
    activation: type[nn.Module] = nn.ReLU
    dropout: float = 0.0
    main: float | None = None
    aux: float = 1.0
    plateau: bool = False
    views: Augmentation | None = None
    balanced: tuple[str, ...] = ()


SYSTEMS = {
    "Face attribute classifier": PlainRecipe(lr=1e-4, weight_decay=1e-4, main=0.7, aux=0.1),
    "FaceCom": PlainRecipe(
        lr=1e-3,
        weight_decay=1e-4,
        aux=0.5,
        plateau=True,
        views=Augmentation(strength=1, aspect=0, crop=0, flip=0.5, color=0.3, blur=0.2, rain=0.2, fog=0.2),
    ),
    "CelebA accessories": PlainRecipe(lr=1e-4, hidden=512, dropout=0.5, plateau=True),
    "UTKFace ViT": PlainRecipe(
        lr=1e-4,
        late_lr=1e-5,
        weight_decay=1e-4,
        hidden=128,
        activation=nn.GELU,
        dropout=0.1,
        balanced=("gender", "race"),
    ),
    "FairFace CLIP": PlainRecipe(lr=1e-5, weight_decay=1e-4),
}


def find_recipe(name: str) -> PlainRecipe:
    """Reads `plain LR`, a system's name, or `SYSTEM at LR`, which multiplies its rates so that the first one is LR."""
    if name.startswith("plain "):
        return PlainRecipe(lr=float(name.split()[1]))
    system, _, rate = name.partition(" at ")
    recipe = SYSTEMS[system]
    factor = float(rate) / recipe.lr if rate else 1.0
    late = None if recipe.late_lr is None else recipe.late_lr * factor
    return replace(recipe, lr=recipe.lr * factor, late_lr=late)


def train_plain(
    recipe: PlainRecipe,
    data: ImageSet,
    preprocessing: Preprocessing,
    *,
    backbone: str,
    epochs: int,
    seed: int,
    device: torch.device,
) -> Figures:
    """Trains on the rows that have all labels, and returns the figures of the best epoch."""
    data = keep_complete_rows(data)
    torch.manual_seed(seed)
    network = _Network(recipe, data, backbone, Normalise(preprocessing))
    network.to(device, memory_format=torch.channels_last)  # the same numbers, sooner
    plain = EvalTransform(preprocessing)
    stored = data.images["train"]
    ready = plain(stored)
    views = None if recipe.views is None else TrainTransform(preprocessing, recipe.views)
    val = plain(data.images["val"])
    labels = _labels_of(data, network.names)
    weights = {name: recipe.main if name == network.main else recipe.aux for name in network.names}
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=3)
    best: Figures = {}
    for epoch in range(epochs):
        if recipe.late_lr is not None and epoch == math.ceil(epochs / 2):
            for group in optimizer.param_groups:
                group["lr"] = recipe.late_lr
        network.train()
        for rows in _draw_rows(recipe, data):
            images = ready[rows]
            if views is not None:
                seeds = [image_seed(seed, epoch=epoch, row=row) for row in rows.tolist()]
                images = views(list(stored[rows]), seeds=seeds)
            outputs = network(images.to(device))
            losses = [
                weights[name] * functional.cross_entropy(outputs[name], labels[name][rows].to(device))
                for name in network.names
            ]
            optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()
            optimizer.step()
        network.eval()
        figures = judge(network.outputs_of(val, device, list(data.classes)), data)
        best = max((best, figures), key=mean_f1)
        if recipe.plateau:
            plateau.step(mean_f1(figures))
    return best


class _Network(nn.Module):
    def __init__(self, recipe: PlainRecipe, data: ImageSet, backbone: str, normalise: nn.Module) -> None:
        super().__init__()
        self.normalise = normalise
        self.backbone = timm.create_model(backbone, pretrained=False, num_classes=0)
        self.main: str | None = None
        sizes = {name: len(classes) for name, classes in data.classes.items()}
        if recipe.main is not None:
            has_clear = all(map(data.is_binary, sizes))
            self.main = _CLEAR if has_clear else next(iter(sizes))
            sizes |= {_CLEAR: 2} if has_clear else {}
        self.names = tuple(sizes)
        width = self.backbone.num_features
        self.heads = nn.ModuleDict({name: _build_head(recipe, width, size) for name, size in sizes.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(self.normalise(images).contiguous(memory_format=torch.channels_last))
        return {name: self.heads[name](features) for name in self.names}

    @torch.no_grad()
    def outputs_of(self, images: Tensor, device: torch.device, names: list[str]) -> dict[str, Tensor]:
        parts = [self(part.to(device)) for part in images.split(500)]
        return {name: torch.cat([part[name] for part in parts]).cpu() for name in names}


def _build_head(recipe: PlainRecipe, width: int, size: int) -> nn.Module:
    if not recipe.hidden:
        return nn.Linear(width, size)
    hidden = nn.Linear(width, recipe.hidden)
    return nn.Sequential(hidden, recipe.activation(), nn.Dropout(recipe.dropout), nn.Linear(recipe.hidden, size))


def _labels_of(data: ImageSet, names: tuple[str, ...]) -> dict[str, Tensor]:
    given = data.labels["train"]
    clear = torch.stack([given[name] == 0 for name in given]).all(0).long()
    return {name: given.get(name, clear) for name in names}


def _draw_rows(recipe: PlainRecipe, data: ImageSet) -> Iterator[Tensor]:
    """Yields the rows of an epoch's batches: every row once, or drawn so that all combinations occur equally often."""
    # Batch norm cannot learn from a batch of one.
    count = len(data.images["train"]) // 2 * 2
    cell = torch.zeros(count, dtype=torch.int64)
    for name in recipe.balanced:
        if name in data.classes:
            cell = cell * len(data.classes[name]) + data.labels["train"][name][:count]
    if not cell.any():
        yield from torch.randperm(count).split(_BATCH)
        return
    shares = 1 / torch.bincount(cell).clamp(min=1)[cell]
    yield from torch.multinomial(shares, count, replacement=True).split(_BATCH)
