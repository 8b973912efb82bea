"""A model of a few hundred numbers on 4 x 4 pictures whose labels can be seen in their colours."""

import torch
from torch import Tensor, nn

from faceattr.attributes import Attribute, AttributeSet
from faceattr.models.backbones.blocks import Backbone, BackboneConfig, Block
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.heads import HeadConfig
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.losses.class_weights import LabelTotals
from faceattr.training.targets import Batch, Targets

HAT = Attribute(name="hat")
TONE = Attribute(name="tone", kind="multiclass", classes=("dark", "middle", "light"))
AGE = Attribute(name="age", kind="age", classes=())
PERSON = Attribute(name="person", kind="identity", classes=("p0", "p1", "p2", "p3"))
ATTRIBUTES = AttributeSet(attributes=(HAT, TONE, AGE, PERSON))
SIZE = 4


class ToyBackbone(Backbone):
    def __init__(self, *, norm: bool = True, dropout: float = 0.0) -> None:
        module = nn.Sequential()
        module.add_module("stem", nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 12)))
        module.add_module("norm", nn.BatchNorm1d(12) if norm else nn.Identity())
        module.add_module("deep", nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(12, 8), nn.Tanh()))
        super().__init__(
            module,
            config=BackboneConfig(name="toy", image_size=SIZE),
            blocks=(Block("stem", ("stem", "norm"), ("stem", "norm")), Block("deep", ("deep",), ("deep",))),
            num_features=8,
            preprocessing=Preprocessing(size_px=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        )

    def pool(self, x: Tensor) -> Tensor:
        return x

    def no_weight_decay(self) -> set[str]:
        return set()


def build_toy(attributes=ATTRIBUTES, *, seed=0, age_output="distribution", **kwargs) -> MultiAttributeModel:
    torch.manual_seed(seed)
    heads = {name: HeadConfig(age_output=age_output) for name in attributes.names}
    return MultiAttributeModel(ToyBackbone(**kwargs), attributes, heads=heads)


def binary(values, score=None, weight=None) -> Targets:
    """None is unknown."""
    known = torch.tensor([value is not None for value in values])
    return Targets(
        value=torch.tensor([float(value or 0) for value in values]),
        known=known,
        weight=torch.ones(len(values)) if weight is None else torch.tensor(weight),
        score=None if score is None else torch.tensor([float("nan") if each is None else each for each in score]),
    )


def classes(values, num_classes, score=None) -> Targets:
    """An int is exact, a set coarse, None unknown."""
    coarse = torch.zeros(len(values), num_classes, dtype=torch.bool)
    for row, value in enumerate(values):
        for each in value if isinstance(value, set) else ():
            coarse[row, each] = True
    return Targets(
        value=torch.tensor([value if isinstance(value, int) else 0 for value in values]),
        known=torch.tensor([isinstance(value, int) for value in values]),
        weight=torch.ones(len(values)),
        coarse=coarse,
        score=score,
    )


def ages(values) -> Targets:
    """An int is exact, a pair a range, None unknown."""
    pairs = [(v, v + 1) if isinstance(v, int) else v or (0, 0) for v in values]
    return Targets(
        value=torch.tensor(pairs, dtype=torch.float32),
        known=torch.tensor([value is not None for value in values]),
        weight=torch.ones(len(values)),
    )


def make_batch(num, seed, *, missing=0.25) -> Batch:
    """Pictures with one colour each and noise; a share of the labels is missing, some are coarse or ranges."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(num, 3, 1, 1, generator=generator) * 200 + 20
    noise = torch.rand(num, 3, SIZE, SIZE, generator=generator) * 30
    red, green, blue = colour.view(num, 3).unbind(1)
    gone = torch.rand(num, 4, generator=generator) < missing
    tone = [int(each // 74) for each in green]
    person = [int(r > 120) * 2 + int(b > 120) for r, b in zip(red, blue, strict=True)]
    return Batch(
        inputs=(colour + noise).to(torch.uint8),
        targets={
            "hat": binary([None if gone[i, 0] else int(red[i] > 120) for i in range(num)]),
            "tone": classes(
                [None if gone[i, 1] else {1, 2} if i % 5 == 4 and tone[i] else tone[i] for i in range(num)], 3
            ),
            "age": ages(
                [
                    None
                    if gone[i, 2]
                    else int(blue[i] / 3)
                    if i % 2
                    else (int(blue[i] / 3) // 10 * 10, int(blue[i] / 3) // 10 * 10 + 10)
                    for i in range(num)
                ]
            ),
            "person": classes([None if gone[i, 3] else person[i] for i in range(num)], 4),
        },
    )


def join(batches) -> Batch:
    """Several batches as one."""

    def cat(tensors):
        return None if tensors[0] is None else torch.cat(tensors)

    names = ("value", "known", "weight", "coarse", "score")
    return Batch(
        inputs=torch.cat([batch.inputs for batch in batches]),
        targets={
            key: Targets(**{name: cat([getattr(batch.targets[key], name) for batch in batches]) for name in names})
            for key in batches[0].targets
        },
    )


def split(batch, *sizes):
    """One batch as several."""
    rows = torch.arange(len(batch)).split(list(sizes))
    return [
        Batch(inputs=batch.inputs[r], targets={key: each.take(r) for key, each in batch.targets.items()}) for r in rows
    ]


def count(batches, attributes=ATTRIBUTES):
    totals = LabelTotals(attributes)
    for batch in batches:
        totals.add(batch.targets)
    return totals.counts
