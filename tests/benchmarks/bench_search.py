"""What the feature cache and stacked heads save: the same trials, on the same data, in one run.

    python tests/benchmarks/bench_search.py            about 15 minutes on 2 cores
    python tests/benchmarks/bench_search.py --small    a look whether it works

Uncached trials get their images decoded from memory, which is the best case for them: the ratios hold for the
network alone. Filling the cache is reported beside them. The last part runs trials through Tune.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from faceattr.config import ImageLimitsConfig, RayConfig
from faceattr.config.search import SearchConfig, TrialsConfig
from faceattr.data.images.decode import decode_image
from faceattr.jobs.cluster.session import ray_session
from faceattr.jobs.search import job as search_job
from faceattr.jobs.search import run as search
from faceattr.jobs.search.computation import settle_search
from faceattr.jobs.search.inputs import Inputs, SearchPlan, open_inputs
from faceattr.jobs.search.stack import train_stack
from faceattr.jobs.search.trial import train_trial
from faceattr.models.backbones.class_token import ClassTokenSuffix
from faceattr.models.transforms import EvalTransform
from faceattr.search.records import TrialReport
from faceattr.training.assembly import build_stages
from faceattr.training.features.feed import FeatureFeed, order_epoch, read_labels
from faceattr.training.loop.fit import fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.targets import Batch, read_targets
from tests.benchmarks.ratios import tell_ratio
from tests.jobs.train_data import ATTRIBUTES, coloured_row
from tests.packed_runs import write_packed_run

CPU = torch.device("cpu")
SPACES = {
    "heads only": "freeze.depth: all",
    "last quarter": "freeze.depth: 10",
}
DRAWN = "optim.lr: {loguniform: [1e-3, 1e-2]}\nloss.aux_weight: {uniform: [0.05, 1.0]}\n"


class MemoryFeed:
    """Decoded images from memory, in the order of the real feeds."""

    def __init__(self, plan: SearchPlan, config: Any, model: Any) -> None:
        self._plan, self._config = plan, config
        plain = EvalTransform(model.backbone.preprocessing)
        self._images, self._targets = {}, {}
        limits = ImageLimitsConfig(max_bytes=2**30, max_pixels=2**26)
        for split in ("train", "val"):
            rows = [
                data for table in plan.inputs.data.iter_split(split, ["image"]) for data in table["image"].to_pylist()
            ]
            decoded = [torch.from_numpy(decode_image(data, limits)).permute(2, 0, 1).contiguous() for data in rows]
            self._images[split] = torch.stack([plain(image) for image in decoded])
            attributes = plan.inputs.attributes
            self._targets[split] = read_targets(read_labels(plan.inputs.data, split, attributes), attributes)
        self.num_batches = len(self._images["train"]) // config.feed.settled_batch_size

    def _batch(self, split: str, index: np.ndarray) -> Batch:
        rows = torch.from_numpy(index)
        targets = {name: each.take(rows) for name, each in self._targets[split].items()}
        return Batch(inputs=self._images[split][rows], targets=targets)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        settings, size = self._config.feed, self._config.feed.settled_batch_size
        order = order_epoch(self._plan.inputs.surveys["train"], settings, seed=self._config.seed, epoch=epoch)
        for number in range(self.num_batches):
            yield self._batch("train", order[number * size : (number + 1) * size])

    def val_batches(self) -> Iterator[Batch]:
        for start in range(0, len(self._images["val"]), self._config.feed.settled_batch_size):
            stop = min(start + self._config.feed.settled_batch_size, len(self._images["val"]))
            yield self._batch("val", np.arange(start, stop))


def train_one(plan: SearchPlan, values: Mapping[str, Any], inputs: Callable[[Any, Any], Any]) -> tuple[float, dict]:
    """Seconds of a training, its inputs being there, and the figures of its best epoch."""
    config = plan.config_of(0, values)
    model = plan.inputs.build_model(config)
    stages = build_stages(config, model)
    found = inputs(config, model)
    started = time.perf_counter()
    result = fit(
        model,
        found.batches,
        config.fit,
        counts=plan.inputs.counts,
        ranks=Ranks(device=CPU),
        stages=stages,
        network=found.wrap,
    )
    return time.perf_counter() - started, result.history[result.best_epoch]


def furthest(first: Sequence[dict], second: Sequence[dict]) -> float:
    """Largest difference of a loss or of a share between the same trials."""
    names = [name for name in first[0] if name.startswith("val/") and not name.endswith(("mae", "rmse", "bias"))]
    pairs = [(one[name], other[name]) for one, other in zip(first, second, strict=True) for name in names]
    return max(abs(one - other) for one, other in pairs if math.isfinite(one) and math.isfinite(other))


def prepare(folder: Path, name: str, packed: str, args: Any, trials: int) -> tuple[Any, SearchPlan, list[dict]]:
    """A search and the settings of its trials."""
    space = folder / f"{name}.yaml"
    space.write_text(DRAWN + SPACES[name])
    config = SearchConfig(
        data=(packed,),
        output=str(folder / name.replace(" ", "-")),
        space=str(space),
        algorithm="random",
        num_samples=trials,
        cache="on",
        set=(
            *("model.backbone=vit_tiny_patch16_224", "model.pretrained=false", "augment.strength=0", "loss.main=hat"),
            *(f"model.image_size={args.size}", f"optim.epochs={args.epochs}", "feed.batch_size=32"),
        ),
    )
    job = settle_search(search_job.prepare_search_job(config))
    search_job.begin_search_run(job)
    plan = search.plan_search(job, search.survey_search(job))
    return job, plan, [job.space.draw(np.random.default_rng((0, number))) for number in range(trials)]


def compare_cache(folder: Path, name: str, packed: str, args: Any) -> dict[str, Any]:
    """16 trials from the cache, and from images."""
    job, plan, drawn = prepare(folder, name, packed, args, args.trials)
    started = time.perf_counter()
    rows = search.fill_caches(job, plan)
    fill_s = time.perf_counter() - started
    kept: dict[str, Any] = {}

    def from_images(config: Any, model: Any) -> Inputs:
        kept.setdefault("feed", MemoryFeed(plan, config, model))
        feed = kept["feed"]
        return Inputs(feed=feed, boundary=None, note="memory")

    def cached(config: Any, model: Any) -> Inputs:
        found = open_inputs(plan, config, model)
        assert isinstance(found.feed, FeatureFeed)
        assert isinstance(found.wrap(model), ClassTokenSuffix)
        return found

    for inputs in (cached, from_images):  # warm: the first training of a process chooses kernels and imports
        train_one(plan, drawn[0], inputs)
    pairs = [(train_one(plan, values, cached), train_one(plan, values, from_images)) for values in drawn]
    with_cache, without = ([pair[way] for pair in pairs] for way in (0, 1))
    cached_s, uncached_s = (sum(seconds for seconds, _ in each) for each in (with_cache, without))
    return {
        "what": f"cache, {name}",
        "trials": len(drawn),
        "uncached_s": round(uncached_s, 2),
        "cached_s": round(cached_s, 2),
        "ratio": round(uncached_s / cached_s, 2),
        "fill_s": round(fill_s, 2),
        "filled_images": rows,
        "ratio_with_filling": round(uncached_s / (cached_s + fill_s), 2),
        "largest_difference": furthest([figures for _, figures in with_cache], [figures for _, figures in without]),
    }


def compare_stack(folder: Path, packed: str, args: Any) -> dict[str, Any]:
    """64 settings of heads as one stack, and one by one; both with judging and thresholds."""
    job, plan, drawn = prepare(folder, "heads only", packed, args, args.settings)
    search.fill_caches(job, plan)
    reports: list[dict[str, Any]] = []
    started = time.perf_counter()
    train_stack(plan, list(range(len(drawn))), drawn, reports.append, device=CPU)
    stacked_s = time.perf_counter() - started
    records = TrialReport.decode(reports[0]["report"]).records
    started = time.perf_counter()
    alone = []
    for number, values in enumerate(drawn):
        each: list[dict[str, Any]] = []
        train_trial(plan, 1000 + number, values, each.append, ranks=Ranks(device=CPU))
        alone += TrialReport.decode(each[-1]["report"]).records
    alone_s = time.perf_counter() - started
    differences = [
        abs(one.judgement.objective - other.judgement.objective) for one, other in zip(records, alone, strict=True)
    ]
    losses = [abs(one.figures["loss"] - other.figures["loss"]) for one, other in zip(records, alone, strict=True)]
    return {
        "what": "stack of heads",
        "settings": len(drawn),
        "one_by_one_s": round(alone_s, 2),
        "stacked_s": round(stacked_s, 2),
        "ratio": round(alone_s / stacked_s, 2),
        "largest_difference_of_objectives": max(differences),
        "largest_difference_of_losses": max(losses),
    }


def measure_tune(folder: Path, packed: str, args: Any) -> dict[str, Any]:
    """Seconds that Tune adds to a trial."""
    job, plan, drawn = prepare(folder, "heads only", packed, args, args.trials)
    job = replace(job, config=replace(job.config, trials=TrialsConfig(stack="off", max_concurrent=1)))
    job = replace(job, output=type(job.output)(folder / "tune"))
    plan = replace(plan, trials=job.config.trials)
    alone_s = sum(
        train_one(plan, values, lambda config, model: open_inputs(plan, config, model))[0] for values in drawn
    )
    started = time.perf_counter()
    trials = search.run_search(job, plan)
    tune_s = time.perf_counter() - started
    assert all(trial.status in ("finished", "stopped") for trial in trials)
    return {
        "what": "overhead of Tune",
        "trials": len(trials),
        "tune_s": round(tune_s, 2),
        "training_alone_s": round(alone_s, 2),
        "overhead_s_per_trial": round((tune_s - alone_s) / len(trials), 2),
    }


def main() -> int:
    """Prints one JSON line a part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256, help="training images")
    parser.add_argument("--size", type=int, default=224, help="side of an image, px")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--settings", type=int, default=64, help="of the stack")
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    if args.small:
        args.rows, args.size, args.epochs, args.trials, args.settings = 64, 64, 1, 3, 16
    with tempfile.TemporaryDirectory() as scratch, ray_session(RayConfig(dashboard=False, object_store_mb=400)):
        folder = Path(scratch)
        rng = np.random.default_rng(0)
        rows = {split: [coloured_row(rng) for _ in range(num)] for split, num in (("train", args.rows), ("val", 64))}
        packed = write_packed_run(folder / "packed", ATTRIBUTES, rows, shard_size=64)
        for part in (
            lambda: compare_cache(folder, "heads only", packed, args),
            lambda: compare_stack(folder, packed, args),
            lambda: measure_tune(folder, packed, args),
            lambda: compare_cache(folder, "last quarter", packed, args),
        ):
            found = part()
            print(json.dumps(found), flush=True)
            if "ratio" in found:
                tell_ratio(f"search.{found['what']}".replace(", ", ".").replace(" ", "_"), found["ratio"])
        assert ray.is_initialized()
    return 0


if __name__ == "__main__":
    sys.exit(main())
