"""Scaling of a label run over actors, with a scorer that sleeps as if a GPU worked, and what the planner says of it."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.label_runs import make_images


@dataclass(frozen=True)
class SleepingScorer:
    """Takes a fixed time an image and no CPU, as a GPU would."""

    seconds_per_image: float
    image_size_px: int = 96
    num_answers: int = 18

    def __call__(self) -> "SleepingScorer":
        return self

    def score(self, images: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds_per_image * len(images))
        return np.full((len(images), self.num_answers), -1.0, np.float32)


def bench_scaling(*, milliseconds: float) -> None:
    """Prints images/s with 1, 2, 4 and 8 actors whose scorer sleeps, and what `faceattr plan` gives for the same."""
    import ray

    from faceattr.config import ImageLimitsConfig, LabelConfig
    from faceattr.jobs.cluster.session import ActorLayout
    from faceattr.jobs.images import label
    from faceattr.jobs.images import run as image_run
    from faceattr.jobs.images.actors.label_actor import VqaActor
    from faceattr.jobs.images.pipeline import ImageStream, stream_rows
    from faceattr.planning.label_plan import CostEstimate, estimate_label
    from faceattr.planning.rates import load_rates

    ray.init(address="local", num_cpus=8, num_gpus=8, include_dashboard=False, log_to_driver=False)
    rates = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = make_images(folder / "images", 6_000, size_px=112)
        for actors in (1, 2, 4, 8):
            count = 700 * actors
            config = LabelConfig(images=str(images), output=str(folder / f"run{actors}"), model="tiny", limit=count)
            job = label.prepare_label_job(config)
            version = image_run.open_version(job, image_run.begin_run(job))
            stream = stream_rows(
                version.work(),
                ImageStream(
                    run_uri=job.output.uri,
                    root=str(images),
                    bytes_column=None,
                    storage=job.storage,
                    limits=ImageLimitsConfig(),
                    decode_timeout_s=30,
                    resizer=job.resizer,
                ),
                actor=VqaActor,
                actor_kwargs={
                    "build_scorer": SleepingScorer(milliseconds / 1000),
                    "questions": job.questions,
                    "schema": version.schema,
                },
                actors=ActorLayout(min_actors=actors, max_actors=actors, gpus=1, cpus=0, threads=1, batch_size=64),
                block_rows=32,
                wait_s=120,
                name=f"scaling_{actors}",
            )
            # The first and the last blocks come while not all actors work; the middle is the steady state.
            arrivals, total = [], 0
            for table in stream:
                total += len(table)
                arrivals.append((time.perf_counter(), total))
            low, high = (next(each for each in arrivals if each[1] >= share * count) for share in (0.25, 0.85))
            rates[actors] = (high[1] - low[1]) / (high[0] - low[0])
            plan = CostEstimate(
                num_images=count,
                model_px=SleepingScorer.image_size_px,
                gflop_image=job.checkpoint.gflop_image,
                gflop_question=job.checkpoint.gflop_question,
                is_measured=False,
                pixels=112 * 112,
                image_bytes=6_000,
                gpu="h200",
                num_gpus=actors,
                num_cores=8,
                gpu_rate=1000 / milliseconds,
                block_rows=32,
            )
            planned = estimate_label(plan, load_rates()).bottleneck
            print(
                f"{actors} actors: {rates[actors]:7.1f} images/s, {rates[actors] / planned.rate:.1%} of the "
                f"{planned.rate:.1f} that the planner gives ({planned.name})",
                flush=True,
            )
    for actors, rate in rates.items():
        print(f"{actors} actors: {rate / (actors * rates[1]):.1%} of linear")
