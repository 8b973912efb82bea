"""Every preset trains on a small sample of its own layout, on its real backbone made narrow."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch

from faceattr.attributes import Attribute, AttributeSet
from faceattr.cli import parse_config
from faceattr.config.train import TrainConfig
from faceattr.data.packed.reader import open_packed
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES
from faceattr.jobs.train.decode import DecodeRows
from faceattr.jobs.train.feed import cut_batches, to_batch
from faceattr.jobs.train.stages import Epoch, ReadStretches, ReadWindow
from faceattr.models.backbones.names import build_backbone
from faceattr.training.assembly import build_model, build_stages, check_selection, choose_attributes
from faceattr.training.label_survey import join_surveys, survey_file
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.presets import PRESETS_FOLDER
from faceattr.training.row_order import cut_windows
from tests.jobs.train_data import SIZE, png
from tests.packed_runs import write_packed_run

NUM_TRAIN, NUM_VAL = 48, 24
IDENTITY = Attribute(name="identity", kind="identity", classes=tuple(f"person_{n}" for n in range(6)))
EXTRA = Attribute(name="smiling")


def binary(*names):
    return tuple(Attribute(name=name) for name in names)


# Attributes that the packed runs of each layout have, and flags that make the real backbone small.
NARROW_VIT = ["--model.args", "embed_dim", "16", "num_heads", "2", "--model.image-size", str(SIZE)]
NARROW_RESNET = ["--model.args", "channels", "[4, 8, 8, 16]", "--model.image-size", str(SIZE)]
LAYOUTS = {
    "clear_face": (binary("hat", "glasses", "facial_hair", "label"), NARROW_RESNET),
    "facecom": ((FACE_ATTRIBUTES["gender"], IDENTITY), NARROW_RESNET),
    "celeba4": (
        (EXTRA, *binary("eyeglasses", "mustache", "beard", "hat")),
        ["--model.args", "mlp_ratio", "0.01", "--model.image-size", str(SIZE)],
    ),
    "utkface_vit": (
        tuple(FACE_ATTRIBUTES[name] for name in ("age", "gender", "race_group")),
        [*NARROW_VIT, "--optim.precision", "float32", "--freeze.head-epochs", "1"],
    ),
    "fairface_clip": (
        tuple(FACE_ATTRIBUTES[name] for name in ("age_group", "gender", "race")),
        ["--model.args", "embed_dim", "16", "num_heads", "2", "patch_size", "8", "--model.image-size", str(SIZE)],
    ),
    "demo": (binary("hat", "glasses", "facial_hair", "label"), ["--model.image-size", str(SIZE)]),
}


def parse(preset, *flags):
    argv = ["--preset", preset, "--data", "d", "--output", "o", *flags]
    return parse_config(TrainConfig, argv, presets=PRESETS_FOLDER)


def make_rows(attributes, count, seed):
    """Labels that a colour shows, every ninth one missing."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        colour = rng.integers(0, 256, 3)
        row = {"image": png(np.broadcast_to(colour.astype(np.uint8), (40, 40, 3)).copy())}
        for place, each in enumerate(attributes):
            value = int(colour[place % 3])
            if (number + place) % 9 == 0:
                continue
            if each.kind == "age":
                row |= {"age_low": float(value // 4), "age_high": float(value // 4 + 1)}
            else:
                row[each.name] = value * len(each.classes) // 256
        rows.append(row)
    return rows


class Local:
    """The stages of the feed, run here."""

    def __init__(self, data, attributes, config, preprocessing):
        self.data, self.attributes, self.config, self.preprocessing = data, attributes, config, preprocessing
        self.surveys = {
            split: join_surveys(
                survey_file(data, split, place, attributes=attributes, balance=config.feed.balance)[0]
                for place in range(len(data.splits[split]))
            )
            for split in ("train", "val")
        }

    @property
    def num_batches(self):
        return self.surveys["train"].stretches.total_rows // self.config.feed.batch_size

    @property
    def counts(self):
        return {name: torch.tensor(counts) for name, counts in self.surveys["train"].counts.items()}

    def train_batches(self, number):
        epoch = Epoch(seed=self.config.seed, number=number, rank=0, world_size=1)
        read = ReadWindow(
            data=self.data,
            attributes=self.attributes,
            survey=self.surveys["train"],
            balance=self.config.feed.balance,
            epoch=epoch,
            block_rows=16,
        )
        decode = DecodeRows(preprocessing=self.preprocessing, augmentation=self.config.augment, epoch=epoch)
        sizes = self.surveys["train"].stretches.num_rows
        windows = cut_windows(sizes, seed=self.config.seed, epoch=number, window_rows=1_000)
        items = [{**vars(each), "stretches": each.stretches.tolist()} for each in windows]
        tables = (decode(table) for table in read(pa.Table.from_pylist(items)))
        size = self.config.feed.batch_size
        for part in cut_batches(tables, batch_size=size, num_batches=self.num_batches):
            yield to_batch(part, self.attributes, self.preprocessing.size_px)

    def val_batches(self):
        read = ReadStretches(data=self.data, attributes=self.attributes, split="val", survey=self.surveys["val"])
        decode = DecodeRows(preprocessing=self.preprocessing)
        for table in read(pa.table({"stretch": list(range(len(self.surveys["val"].stretches.num_rows)))})):
            yield to_batch(decode(table), self.attributes, self.preprocessing.size_px)


@pytest.mark.parametrize("preset", sorted(path.stem for path in PRESETS_FOLDER.glob("*.yaml")))
def test_a_preset_leaves_nothing_to_be_chosen_by_the_recipe(preset):
    config = parse(preset)
    assert config.fit.optim.lr > 0
    assert (config.augmentation.strength in (0, 1), config.augmentation.aspect) == (True, 0.15)
    assert config.model.crop_fraction == "backbone"
    assert (config.loss.normalised, config.loss.class_weights) == ("all", "none")


@pytest.mark.parametrize("preset", LAYOUTS)
def test_a_preset_trains_on_its_layout(tmp_path, preset):
    attributes, flags = LAYOUTS[preset]
    rows = {"train": make_rows(attributes, NUM_TRAIN, 1), "val": make_rows(attributes, NUM_VAL, 2)}
    data = open_packed([write_packed_run(tmp_path / "packed", AttributeSet(attributes=attributes), rows)])
    config = parse(preset, *flags, "--model.no-pretrained", "--feed.batch-size", "16", "--optim.epochs", "2")
    chosen = choose_attributes(data.attributes, config.attributes)
    # What else was packed is left alone.
    assert set(chosen.names) == set(config.attributes) <= set(data.attributes.names)
    model = build_model(config, chosen, counts=Local(data, chosen, config, None).counts)
    local = Local(data, chosen, config, model.backbone.preprocessing)
    check_selection(config, chosen, local.surveys["val"].labelled)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = fit(
        model,
        EpochBatches(train=local.train_batches, val=local.val_batches, num_train=local.num_batches),
        config.fit,
        counts=local.counts,
        ranks=Ranks(device=torch.device("cpu")),
        stages=build_stages(config, model),
    )
    assert len(result.history) == 2
    assert all(np.isfinite(record["train/loss"]) and np.isfinite(record["objective"]) for record in result.history)
    assert [record["images"] for record in result.history] == [48.0, 48.0]
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    in_backbone = {name for name in changed if name.startswith("backbone")}
    assert bool(in_backbone) == (preset != "celeba4")
    assert any(name.startswith("heads") for name in changed)


@pytest.mark.parametrize(
    ("preset", "blocks", "trained"),
    [
        ("clear_face", 17, 17),
        ("facecom", 17, 17),
        ("celeba4", 13, 0),
        ("utkface_vit", 13, 13),
        ("fairface_clip", 25, 3),
    ],
)
def test_the_real_backbone_of_a_preset_is_there(preset, blocks, trained):
    config = parse(preset)
    assert config.model.pretrained
    with torch.device("meta"):
        backbone = build_backbone(config.model.backbone, pretrained=False, image_size=config.model.image_size)
    assert backbone.num_blocks == blocks
    depth = backbone.num_blocks if config.freeze.depth == "all" else config.freeze.depth
    assert blocks - depth == trained
    assert backbone.preprocessing.size_px == 224


def test_presets_keep_the_options_of_the_replaced_systems():
    options = {name: parse(name) for name in LAYOUTS}
    assert {name: (each.optim.epochs, each.feed.batch_size, each.optim.lr) for name, each in options.items()} == {
        "clear_face": (50, 32, 1e-4),
        "facecom": (30, 32, 1e-3),
        "celeba4": (40, 32, 1e-4),
        "utkface_vit": (30, 32, 1e-5),
        "fairface_clip": (5, 32, 1e-5),
        "demo": (8, 32, 3e-3),
    }
    clear, faces, utk = options["clear_face"], options["facecom"], options["utkface_vit"]
    assert (clear.loss.main, clear.loss.label_weight, clear.loss.aux_weight) == ("label", 0.7, 0.1)
    assert clear.optim.weight_decay == faces.optim.weight_decay == 1e-4
    assert (faces.optim.name, faces.optim.schedule, faces.seed, faces.select.patience) == ("adam", "plateau", 42, 10)
    assert dict(faces.select.combine) == {"gender/accuracy": 0.3, "identity/top1": 0.7}
    assert min(faces.augment.rain, faces.augment.fog, faces.augment.blur) > 0
    assert (utk.freeze.head_lr, utk.feed.balance) == (1e-4, ("gender", "race_group"))
    assert dataclasses.replace(clear.model, backbone="x").head == "linear"
