"""Jobs whose result is a model: train and search."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faceattr.data.runs.version import RUN_KEY
from faceattr.data.stores.store import Store
from faceattr.models.multitask import MultiAttributeModel
from faceattr.search.records import read_begun, read_records
from faceattr.training.history import read_history
from tests.documents import ROOT
from tests.faults.schedules.job import RAY_PROCESSES, Job
from tests.faults.schedules.world import World
from tests.jobs.train_data import ATTRIBUTES, SIZE, TINY, coloured_row
from tests.packed_runs import write_packed_run

NUM_EPOCHS, NUM_TRIALS = 5, 4
NUM_ROWS = {"train": 640, "val": 64, "test": 64}
SPACE = """
loss.main: hat
optim.epochs: 3
augment.strength: 0
freeze.depth: {choice: [all, 2]}
optim.lr: {loguniform: [1e-3, 3e-2]}
"""
_READERS = ("MapBatches(ReadWindow)", "MapBatches(DecodeRows)")
# Sums of float32 in another order, after a resume, move a figure by less.
_RELATIVE, _ABSOLUTE = 2e-2, 5e-3


@dataclass(frozen=True, kw_only=True)
class LearningJob(Job):
    """A job that learns from packed images."""

    def prepare(self, world: World) -> None:
        """Packs coloured images in the bucket."""
        rng = np.random.default_rng(0)
        rows = {split: [coloured_row(rng) for _ in range(count)] for split, count in NUM_ROWS.items()}
        write_packed_run(world.uri("packed"), ATTRIBUTES, rows, shard_size=64)
        (world.folder / "space.yaml").write_text(SPACE)

    def is_of_driver(self, key: str) -> bool:
        """See `Job`: workers of a killed driver may still write figures and checkpoints."""
        return key == RUN_KEY or key.startswith("_lease/")


@dataclass(frozen=True, kw_only=True)
class TrainJob(LearningJob):
    """A training, whose parts are epochs."""

    def command(self, world: World, output: str, *, is_begun: bool) -> list[str]:
        """See `Job`; the same command goes on."""
        tiny = [word for word in TINY if word != "--ray.no-dashboard"]  # `start` gives that to every job
        words = [str(ROOT / "pipelines" / "train.py"), "--data", world.uri("packed"), "--output", output, *tiny]
        words += ["--optim.epochs", str(NUM_EPOCHS), "--optim.lr", "2e-3", "--feed.batch-size", "16"]
        return [*words, "--select.patience", "None", "--workers.num-workers", "1"]

    def count_done(self, store: Store) -> int:
        """See `Job`."""
        return len(read_history(store))

    def read(self, store: Store) -> list[dict[str, float]]:
        """The figures of all epochs, without those that are measured in seconds."""
        kept = ("train/", "val/", "lr", "epoch")
        return [{name: value for name, value in each.items() if name.startswith(kept)} for each in read_history(store)]

    def find_fault(self, store: Store, expected: list[dict[str, float]]) -> str | None:
        """See `Job`: an epoch or a figure, or a model that cannot be used."""
        found = self.read(store)
        epochs = [each["epoch"] for each in found]
        if epochs != [each["epoch"] for each in expected]:
            return f"epochs {epochs}"
        for record, wanted in zip(found, expected, strict=True):
            for name, value in wanted.items():
                if not np.isclose(record.get(name, np.inf), value, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True):
                    return f"epoch {wanted['epoch']:.0f}: {name} is {record.get(name)}, undisturbed {value}"
        return find_broken_model(store)


@dataclass(frozen=True, kw_only=True)
class SearchJob(LearningJob):
    """A search, whose parts are trials."""

    def command(self, world: World, output: str, *, is_begun: bool) -> list[str]:
        """See `Job`."""
        words = [str(ROOT / "tune" / "search.py")]
        if is_begun:
            return [*words, "--resume", output]
        network = ["model.backbone=test_vit", "model.pretrained=false", f"model.image_size={SIZE}"]
        words += ["--data", world.uri("packed"), "--output", output, "--space", str(world.folder / "space.yaml")]
        words += ["--set", *network, "feed.batch_size=16", "--trials.checkpoint-s", "0.01"]
        return [*words, "--num-samples", str(NUM_TRIALS)]

    def count_done(self, store: Store) -> int:
        """See `Job`."""
        return sum(1 for each in store.list("trials/") if each.key.endswith("/record.json"))

    def read(self, store: Store) -> list[int]:
        """The numbers of the trials: what is drawn for a trial may depend on which one ended first."""
        return [each.number for each in read_records(store)]

    def find_fault(self, store: Store, expected: list[int]) -> str | None:
        """See `Job`: a trial, what was drawn for it, the best one, or its model."""
        records, begun = read_records(store), read_begun(store)
        if [each.number for each in records] != expected or sorted(begun) != expected:
            return f"trials {[each.number for each in records]}, begun {sorted(begun)}"
        failed = [f"{each.name}: {each.error}" for each in records if each.status == "failed"]
        if failed:
            return f"failed trials: {failed}"
        drawn_twice = [each.name for each in records if dict(each.values) != begun[each.number]]
        if drawn_twice:
            return f"trials with other settings than they began with: {drawn_twice}"
        odd = [each.key for each in store.list() if each.key.endswith(".pkl")]
        return f"files that Ray pickled: {odd}" if odd else find_broken_model(store, "best/")


def find_broken_model(store: Store, prefix: str = "") -> str | None:
    """What is wrong with a published model: unfinished, of other attributes, or with numbers that are none."""
    with tempfile.TemporaryDirectory() as folder:
        for entry in store.list(prefix):
            name = entry.key.removeprefix(prefix)
            if "/" not in name:
                (Path(folder) / name).write_bytes(store.get(entry.key))
        model: Any = MultiAttributeModel.from_pretrained(Path(folder))
    if model.attributes != ATTRIBUTES or model.unfinished is not None:
        return f"a model of {model.attributes.names}, unfinished: {model.unfinished}"
    broken = [name for name, each in model.state_dict().items() if not torch.isfinite(each).all()]
    return f"not finite: {broken}" if broken else None


TRAIN = TrainJob(
    name="train",
    processes=(*RAY_PROCESSES, *_READERS, "ray::TrainController", "ray::RayTrainWorker"),
    num_parts=NUM_EPOCHS,
)
SEARCH = SearchJob(
    name="search",
    processes=(*RAY_PROCESSES, *_READERS, "MapBatches(ComputeFeatures)", "ray::ImplicitFunc"),
    num_parts=NUM_TRIALS,
)
