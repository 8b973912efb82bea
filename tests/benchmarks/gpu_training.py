"""Sections of `bench_gpu.py` on trained models: `fit`, its compilation, feature caches, `Predictor`, nccl. No Ray."""

import functools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import PrecisionChoice
from faceattr.config.augmentation import Augmentation
from faceattr.config.fit import FitConfig, OptimConfig
from faceattr.data.stores.local import LocalStore
from faceattr.inference.predictor import Predictor
from faceattr.models.augment.train import TrainTransform
from faceattr.models.backbones.names import build_backbone
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.freezing import freeze, split_at
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.transforms import Normalise
from faceattr.training.features.cache import cut_parts, write_part
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.ranks import Ranks, join_ranks
from faceattr.training.targets import Batch, Targets
from tests.benchmarks.gpu_report import Figure
from tests.benchmarks.gpu_setting import Setting, images_per_s

NAMES = ("hat", "glasses", "facial_hair")
ATTRIBUTES = AttributeSet(attributes=tuple(Attribute(name=name) for name in NAMES))
# What is measured -> network, the one of --small, blocks that train (None: all), batches of an epoch.
NETWORKS: dict[str, tuple[str, str, int | None, int]] = {
    "resnet50": ("resnet50", "resnet10t", None, 24),
    "ViT-B/16": ("vit_base_patch16_224", "test_vit", None, 12),
    "CLIP-L/14, last 3 blocks": ("vit_large_patch14_clip_224", "test_vit", 3, 8),
}
PRECISIONS: tuple[PrecisionChoice, ...] = ("auto", "bfloat16", "float32")


def build(name: str, setting: Setting) -> MultiAttributeModel:
    """A network of the list with random weights, with its first blocks frozen where it says so."""
    full, small, trained, _ = NETWORKS[name]
    torch.manual_seed(0)
    backbone = build_backbone(small if setting.small else full, pretrained=False, image_size=_side(setting))
    model = MultiAttributeModel(backbone, ATTRIBUTES)
    freeze(model, 0 if trained is None else max(0, backbone.num_blocks - trained))
    return model


def _side(setting: Setting) -> int:
    return setting.pick(224, 32)


def make_batch(setting: Setting) -> Batch:
    """Random images and labels, page-locked where there is a GPU."""
    count, side = setting.pick(128, 4), _side(setting)
    rng = np.random.default_rng(0)
    targets = {
        name: Targets(
            value=torch.from_numpy(rng.integers(0, 2, count)).float(),
            known=torch.ones(count, dtype=torch.bool),
            weight=torch.ones(count),
        )
        for name in NAMES
    }
    batch = Batch(inputs=torch.from_numpy(rng.integers(0, 256, (count, 3, side, side), np.uint8)), targets=targets)
    return batch.pin_memory() if setting.device.type == "cuda" else batch


def training(setting: Setting) -> Iterator[Figure]:
    """`fit` on batches in memory, by network and precision, against the loop that one would write by hand."""
    for name in NETWORKS:
        yield from _against_plain(name, setting)


def _against_plain(name: str, setting: Setting) -> Iterator[Figure]:
    plain = plain_rate(name, setting)
    yield Figure(f"{name}, plain loop", plain, "images/s", "bfloat16 autocast, AdamW, clipped gradients")
    for precision in PRECISIONS:
        rate = fit_rate(name, setting, OptimConfig(epochs=2, precision=precision))
        yield Figure(f"{name}, fit, {precision}", rate, "images/s", f"{rate / plain:.2f} of the plain loop")


def fit_rate(name: str, setting: Setting, optim: OptimConfig, *, ranks: Ranks | None = None, **kwargs: Any) -> float:
    """Images a second of the second epoch; the first warms up."""
    batch, num = make_batch(setting), setting.pick(NETWORKS[name][3], 1)
    result = fit(
        build(name, setting),
        EpochBatches(train=lambda epoch: (batch for _ in range(num)), val=lambda: iter([batch]), num_train=num),
        FitConfig(optim=optim),
        counts={each: torch.tensor([len(batch) / 2] * 2, dtype=torch.float64) for each in NAMES},
        ranks=ranks or Ranks(device=setting.device),
        **kwargs,
    )
    return result.history[-1]["images_per_s"]


def plain_rate(name: str, setting: Setting) -> float:
    """Images a second of a step by hand: normalise, forward in bfloat16, mean of the losses, clip, AdamW."""
    device, batch = setting.device, make_batch(setting)
    model = build(name, setting).to(device, memory_format=torch.channels_last).train()
    normalise, loss = Normalise(model.backbone.preprocessing).to(device), nn.BCEWithLogitsLoss()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device.type == "cuda")

    def step() -> None:
        images = batch.inputs.to(device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            outputs = model(normalise(images).contiguous(memory_format=torch.channels_last))
        labels = {each: batch.targets[each].value.to(device, non_blocking=True) for each in NAMES}
        torch.stack([loss(outputs[each].float()[:, 0], labels[each]) for each in NAMES]).mean().backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    return images_per_s(step, len(batch), setting)


def compiled_training(setting: Setting) -> Iterator[Figure]:
    """`fit` with its network compiled; the first epoch holds the compilation."""
    started = time.perf_counter()
    rate = fit_rate("resnet50", setting, OptimConfig(epochs=2, precision="bfloat16"), compiled=True)
    yield Figure("resnet50, fit compiled, bfloat16", rate, "images/s")
    yield Figure("both epochs, with compilation", time.perf_counter() - started, "s")


def views(setting: Setting) -> Iterator[Figure]:
    """Random views of 224 px: the crop of one core, and what follows it on the device."""
    side, count = setting.pick(224, 32), setting.pick(128, 8)
    transform = TrainTransform(Preprocessing(size_px=side, mean=(0.5,) * 3, std=(0.5,) * 3), Augmentation())
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, side, side), np.uint8))
    seeds = range(count)
    torch.set_num_threads(1)
    yield Figure("crops", images_per_s(lambda: transform.crop(list(images), seeds=seeds), count, setting), "images/s")
    on_device = images.to(setting.device)
    finished = images_per_s(lambda: transform.finish(on_device, seeds=seeds), count, setting)
    yield Figure(f"colours and blur on {setting.device.type}", finished, "images/s", f"batches of {count}")


def feature_cache(setting: Setting) -> Iterator[Figure]:
    """Activations in front of CLIP's last three blocks, computed and written to disk, as a search fills its cache."""
    model = build("CLIP-L/14, last 3 blocks", setting).to(setting.device)
    prefix, _ = split_at(model, model.backbone.frozen_depth)
    forward = Forward(model.backbone.preprocessing, precision="bfloat16", device=setting.device)
    images, store = make_batch(setting).inputs, LocalStore(setting.folder / "features")
    parts = iter(cut_parts("train", 10_000 * len(images), len(images)))
    size = 0

    def fill() -> None:
        nonlocal size
        with torch.no_grad():
            found = forward(prefix, images.to(setting.device, non_blocking=True))
        assert isinstance(found, Tensor)
        features = found.float().cpu()
        write_part(store, next(parts), features, "bfloat16")
        size = features[0].numel() * 2

    rate = images_per_s(fill, len(images), setting)
    yield Figure("CLIP-L/14 in front of its last 3 blocks", rate, "images/s", f"{rate * size / 1e6:,.0f} MB/s written")


def predictor(setting: Setting) -> Iterator[Figure]:
    """`Predictor.score` with pixels in memory, by network and precision; the first is what it chooses by itself."""
    side = _side(setting)
    pixels = np.random.default_rng(0).integers(0, 256, (setting.pick(1024, 16), side, side, 3), np.uint8)
    for name in ("resnet50", "ViT-B/16"):
        for given in ({}, {"precision": "bfloat16"}, {"precision": "float32"}):
            one = Predictor(build(name, setting), device=setting.device, **given)
            rate = images_per_s(functools.partial(one.score, pixels), len(pixels), setting)
            yield Figure(f"{name}, {given.get('precision', 'default')}", rate, "images/s", f"batch {one.batch_size}")


def one_rank(setting: Setting) -> Iterator[Figure]:
    """DDP with a single rank: `fit` through nccl (gloo on a CPU) against `fit` alone, and the sum of a tensor."""
    device = setting.device
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    optim = OptimConfig(epochs=2, precision="bfloat16")
    # Of one rank, `join_ranks` makes a training without a group; of two it makes what each of them has.
    ranks = join_ranks(device, rank=0, world_size=2)
    alone = fit_rate("resnet50", setting, optim)
    together = fit_rate("resnet50", setting, optim, ranks=Ranks(device=device, distribute=ranks.distribute))
    yield Figure(f"resnet50, fit in DDP, {backend}", together, "images/s", f"{together / alone:.2f} of fit alone")
    tensor = torch.ones(setting.pick(64 * 2**20, 2**16), device=device)
    rate = images_per_s(lambda: dist.all_reduce(tensor), 1, setting)
    yield Figure(f"all_reduce of {tensor.nbytes / 1e6:,.0f} MB, {backend}", 1e3 / rate, "ms")
    dist.destroy_process_group()
