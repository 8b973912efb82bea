"""Calls of an actor that run at the same time: rows in order, errors in their block, one thread alone at the model."""

import functools
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
import ray.data

from faceattr.attributes import Attribute
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.commit import OK
from faceattr.errors import ModelError
from faceattr.jobs.cluster.actor_metrics import ActorMetrics
from faceattr.jobs.cluster.pixel_column import pixels_to_arrow
from faceattr.jobs.cluster.session import ActorLayout
from faceattr.jobs.images.actors.label_actor import VqaActor
from faceattr.jobs.images.actors.model_thread import ModelThread
from faceattr.jobs.images.pipeline import map_on_actors
from faceattr.vqa.questions import AskedAttribute, QuestionSet

SIZE_PX = 2
BROKEN = 255
LIMIT_S = 60
ASKED = AskedAttribute(attribute=Attribute(name="hat"), questions=("a hat?",), answers=("no", "yes"), inverted=(False,))
QUESTIONS = QuestionSet(name="test", asked=(ASKED,))
SCHEMA = label_schema(QUESTIONS.attributes)


def block_of(values, *, number=0, missing=()):
    """Rows whose pixels all have the row's value; those at the places `missing` came without an image."""
    read = pa.schema([field for field in SCHEMA if not field.name.startswith("hat")])
    rows = [
        {
            "row": 1000 * number + place,
            "image_id": str(value),
            "uri": str(value),
            "status": "missing" if place in missing else OK,
        }
        for place, value in enumerate(values)
    ]
    pixels = np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (len(values), SIZE_PX, SIZE_PX, 3))
    return pa.Table.from_pylist(rows, read).append_column("pixels", pixels_to_arrow(pixels))


class Scorer:
    """P(yes) is a hundredth of an image's pixel value. Fails if called twice at once, and on images of 255."""

    image_size_px = SIZE_PX

    def __init__(self):
        self.threads = [threading.get_ident()]
        self._inside = threading.Lock()

    def score(self, images):
        assert self._inside.acquire(blocking=False), "the model was called twice at once"
        try:
            self.threads.append(threading.get_ident())
            values = images[:, 0, 0, 0]
            if BROKEN in values:
                raise ModelError(f"{len(values)} images cannot be scored")
            yes = values.astype(np.float32) / 100
            return np.log(np.stack([1 - yes, yes], axis=1))
        finally:
            self._inside.release()


def scores_of(table):
    return [None if score is None else round(score, 4) for score in table["hat_score"].to_pylist()]


def call_together(actor, blocks):
    """Calls the actor with all blocks, each in a thread of its own, and returns the futures."""
    start = threading.Barrier(len(blocks))

    def call(block):
        start.wait(LIMIT_S)
        return actor(block)

    with ThreadPoolExecutor(len(blocks)) as pool:
        return [pool.submit(call, block) for block in blocks]


def test_rows_keep_their_order_and_their_block_when_calls_overlap():
    actor = VqaActor(Scorer, QUESTIONS, SCHEMA)
    values = [[8 * number + place + 1 for place in range(8)] for number in range(8)]
    blocks = [block_of(each, number=number, missing={number}) for number, each in enumerate(values)]
    for number, call in enumerate(call_together(actor, blocks)):
        table = call.result()
        assert table["row"].to_pylist() == [1000 * number + place for place in range(8)]
        expected = [value / 100 for value in values[number]]
        expected[number] = None
        assert scores_of(table) == expected


def test_one_thread_alone_builds_the_model_and_calls_it():
    scorer = []
    actor = VqaActor(lambda: scorer.append(Scorer()) or scorer[0], QUESTIONS, SCHEMA)
    for call in call_together(actor, [block_of([1, 2])] * 8):
        call.result()
    assert len(scorer[0].threads) == 9
    assert set(scorer[0].threads) == {scorer[0].threads[0]}
    assert scorer[0].threads[0] != threading.get_ident()


def test_an_error_is_that_of_its_block_and_the_block_can_be_tried_again():
    actor = VqaActor(Scorer, QUESTIONS, SCHEMA)
    calls = call_together(actor, [block_of([1, 2]), block_of([3, BROKEN, 4]), block_of([5])])
    with pytest.raises(ModelError, match=r"^3 images cannot be scored$"):
        calls[1].result()
    assert [scores_of(calls[place].result()) for place in (0, 2)] == [[0.01, 0.02], [0.05]]
    assert scores_of(actor(block_of([3, 4]))) == [0.03, 0.04]


def test_an_error_of_the_build_is_that_of_the_actor():
    def build():
        raise ModelError("no weights")

    with pytest.raises(ModelError, match=r"^no weights$"):
        VqaActor(build, QUESTIONS, SCHEMA)


class Recorded:
    """A metric that keeps its values, by its name and the values of its tags."""

    def __init__(self, values, name):
        self._values = values
        self._name = name

    def inc(self, value, tags=None):
        self._values[self._name, *(tags or {}).values()].append(value)

    observe = inc


def test_computing_and_waiting_add_up_to_the_time_that_passes():
    moments = []

    def compute(pixels):
        moments.append(time.perf_counter())
        while time.perf_counter() < moments[-1] + 0.01:
            pass
        moments.append(time.perf_counter())
        return pixels

    values = defaultdict(list)
    record = functools.partial(Recorded, values)
    thread = ModelThread(object, ActorMetrics(record, record))
    started = time.perf_counter()
    call_together(lambda block: thread.score(block, SIZE_PX, compute), [block_of([1, 2, 3], missing={1})] * 4)
    elapsed = time.perf_counter() - started
    waited, computed = values["faceattr_actor_wait_seconds_total",], values["faceattr_inference_seconds",]
    assert (len(waited), len(computed)) == (3, 4)
    assert min(computed) >= 0.01
    assert moments[-1] - moments[0] <= sum(waited) + sum(computed) <= elapsed
    assert values["faceattr_images_labelled_total",] == values["faceattr_block_images",] == [2] * 4
    assert values["faceattr_images_rejected_total", "missing"] == [1] * 4

    thread.score(block_of([1, 2], missing={0, 1}), SIZE_PX, compute)
    assert len(values["faceattr_inference_seconds",]) == len(values["faceattr_block_images",]) == 4
    assert values["faceattr_images_rejected_total", "missing"] == [1] * 4 + [2]


def scored_by_one_actor(blocks, build, questions):
    layout = ActorLayout(min_actors=1, max_actors=1, gpus=1, cpus=0, threads=1, batch_size=2)
    kwargs = {"build_scorer": build, "questions": questions, "schema": SCHEMA}
    dataset = map_on_actors(ray.data.from_arrow(blocks), VqaActor, kwargs, layout, 2)
    return dataset.iter_batches(batch_size=None, batch_format="pyarrow")


class Meeting(Scorer):
    """Says when the second block has come to the model."""

    second = threading.Event()

    def score(self, images):
        if len(self.threads) == 2:
            self.second.set()
        return super().score(images)


class Patient(QuestionSet):
    """Reads no answers before then."""

    def compute_labels(self, log_likelihoods):
        assert Meeting.second.wait(LIMIT_S), "the model waits for the rows of the block before"
        return super().compute_labels(log_likelihoods)


@pytest.mark.ray
def test_ray_data_lets_the_model_work_while_the_rows_of_the_block_before_are_made(ray_local):
    blocks = [block_of([number + 1, number + 2], number=number) for number in range(6)]
    tables = list(scored_by_one_actor(blocks, Meeting, Patient(name="test", asked=(ASKED,))))
    found = {table["row"][0].as_py() // 1000: scores_of(table) for table in tables}
    assert found == {number: [(number + 1) / 100, (number + 2) / 100] for number in range(6)}


@pytest.mark.ray
def test_ray_data_sees_the_error_of_a_block_and_keeps_the_others(ray_local):
    blocks = [block_of([number + 1, BROKEN if number == 2 else 9], number=number) for number in range(6)]
    with pytest.raises(ray.exceptions.RayTaskError, match="ModelError: 2 images cannot be scored"):
        list(scored_by_one_actor(blocks, Scorer, QUESTIONS))
    context = ray.data.DataContext.get_current().copy()
    context.max_errored_blocks = 1
    with ray.data.DataContext.current(context):
        tables = list(scored_by_one_actor(blocks, Scorer, QUESTIONS))
    assert sorted(table["row"][0].as_py() // 1000 for table in tables) == [0, 1, 3, 4, 5]
