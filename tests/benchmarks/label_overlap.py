"""How much of its scorer's speed one actor reaches, through Ray Data, with stand-ins that sleep as if a GPU worked."""

import statistics
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray.data

from faceattr.attributes import Attribute
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.commit import OK
from faceattr.jobs.cluster.pixel_column import pixels_to_arrow
from faceattr.jobs.cluster.session import ActorLayout
from faceattr.jobs.images.actors.label_actor import VqaActor
from faceattr.jobs.images.pipeline import map_on_actors
from faceattr.vqa.questions import AskedAttribute, AttributeLabels, QuestionSet
from tests.benchmarks.ratios import tell_ratio

# A GPU's batches and blocks, by default.
BATCH, BLOCK_ROWS = 64, 256
NUM_BLOCKS = 120
SIZE_PX = 32
SCORE_S, ROWS_S = 0.020, 0.010


@dataclass(frozen=True)
class SleepingScorer:
    """Takes a fixed time for a batch, and neither a core nor the interpreter's lock, as a GPU would."""

    image_size_px: int = SIZE_PX

    def __call__(self) -> "SleepingScorer":
        return self

    def score(self, images: np.ndarray) -> np.ndarray:
        for _ in range(0, len(images), BATCH):
            time.sleep(SCORE_S)
        return np.full((len(images), 2), -1.0, np.float32)


class SlowQuestions(QuestionSet):
    """Questions whose answers take a fixed time for a batch to be read."""

    def compute_labels(self, log_likelihoods: np.ndarray) -> dict[str, AttributeLabels]:
        for _ in range(0, len(log_likelihoods), BATCH):
            time.sleep(ROWS_S)
        return super().compute_labels(log_likelihoods)


QUESTIONS = SlowQuestions(
    name="overlap",
    asked=(
        AskedAttribute(
            attribute=Attribute(name="hat"), questions=("a hat?",), answers=("no", "yes"), inverted=(False,)
        ),
    ),
)
SCHEMA = label_schema(QUESTIONS.attributes)


def bench_overlap(*, rounds: int) -> None:
    """Prints images/s of the scorer alone, of one actor, and of one actor whose calls run in turn, and their ratios.

    The three are measured in turn, in each round.
    """
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rates: dict[str, list[float]] = {"scorer alone": [], "one actor": [], "calls in turn": []}
    blocks = make_blocks()
    for _ in range(rounds):
        rates["scorer alone"].append(scorer_rate())
        rates["one actor"].append(actor_rate(blocks, in_turn=False))
        rates["calls in turn"].append(actor_rate(blocks, in_turn=True))
        print({name: round(values[-1]) for name, values in rates.items()}, flush=True)
    alone = statistics.median(rates["scorer alone"])
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{name:14} {middle:8.1f} images/s, {middle / alone:.3f} of the scorer alone")
    tell_ratio("label.one_actor.scorer_alone", statistics.median(rates["one actor"]) / alone)


def make_blocks() -> list[pa.Table]:
    """Decoded blocks as the stage before the model returns them."""
    read = pa.schema([field for field in SCHEMA if not field.name.startswith("hat")])
    facts = [{"row": row, "image_id": str(row), "uri": str(row), "status": OK} for row in range(BLOCK_ROWS)]
    pixels = pixels_to_arrow(np.zeros((BLOCK_ROWS, SIZE_PX, SIZE_PX, 3), np.uint8))
    return [pa.Table.from_pylist(facts, read).append_column("pixels", pixels)] * NUM_BLOCKS


def scorer_rate() -> float:
    """Images a second of the scorer alone, block after block."""
    scorer, images = SleepingScorer(), np.zeros((BLOCK_ROWS, SIZE_PX, SIZE_PX, 3), np.uint8)
    started = time.perf_counter()
    for _ in range(NUM_BLOCKS // 2):
        scorer.score(images)
    return NUM_BLOCKS // 2 * BLOCK_ROWS / (time.perf_counter() - started)


def actor_rate(blocks: list[pa.Table], *, in_turn: bool) -> float:
    """Images a second of one actor between the first and the last quarter of its blocks, by when they arrive."""
    dataset = ray.data.from_arrow(blocks)
    kwargs = {"build_scorer": SleepingScorer(), "questions": QUESTIONS, "schema": SCHEMA}
    if in_turn:  # what Ray Data does unless told otherwise
        dataset = dataset.map_batches(
            VqaActor,
            fn_constructor_kwargs=kwargs,
            batch_size=BLOCK_ROWS,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
            num_gpus=1,
            num_cpus=0,
        )
    else:
        layout = ActorLayout(min_actors=1, max_actors=1, gpus=1, cpus=0, threads=1, batch_size=BATCH)
        dataset = map_on_actors(dataset, VqaActor, kwargs, layout, BLOCK_ROWS)
    arrivals = [
        time.perf_counter() for _ in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
    ]
    assert len(arrivals) == NUM_BLOCKS
    begin, end = NUM_BLOCKS // 4, NUM_BLOCKS * 3 // 4
    return (end - begin) * BLOCK_ROWS / (arrivals[end] - arrivals[begin])
