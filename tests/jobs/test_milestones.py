"""Milestones of workers, as the driver finds them, and the limit on the wait for the first actor."""

import logging
import threading
import uuid

import pytest
import ray
import ray.data

from faceattr import timeline
from faceattr.errors import RunError
from faceattr.jobs.cluster.milestones import gather_milestones, is_reached, reach
from faceattr.jobs.cluster.recipe import ACTOR, READY, ActorRecipe
from faceattr.jobs.images.first_actor import first_within

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@pytest.fixture(autouse=True)
def _no_milestones_before():
    gather_milestones()


def reach_twice(process: str) -> int:
    import os

    for _ in range(2):
        reach(process, "first block")
    return os.getpid()


def test_the_driver_logs_what_its_workers_reached_once(caplog):
    process = f"reader-{uuid.uuid4().hex}"
    assert not is_reached(process, "first block")
    pid = ray.get(ray.remote(num_cpus=0)(reach_twice).remote(process))
    assert is_reached(process, "first block")
    assert not is_reached(process, "imports done")
    with caplog.at_level(logging.DEBUG, "faceattr.timeline"):
        timeline.logger.addHandler(caplog.handler)
        gather_milestones()
        timeline.log_timeline()
        timeline.logger.removeHandler(caplog.handler)
    lines = {each.getMessage().partition("process=")[2] for each in caplog.records}
    assert lines == {f"{process} pid={pid} reached=first_block"}
    assert not is_reached(process, "first block")


def test_blocks_pass_in_order():
    assert list(first_within(60, iter([1, 2, 3]))) == [1, 2, 3]


def test_a_data_set_is_run_once():
    blocks = ray.data.range(3, override_num_blocks=3).iter_batches(batch_size=None)
    assert iter(blocks) is not iter(blocks)  # each would run it
    assert sorted(number for block in first_within(60, blocks) for number in block["id"].tolist()) == [0, 1, 2]


def wait_for_ever():
    threading.Event().wait()
    yield


def test_a_stream_without_an_actor_ends_when_the_time_is_over():
    with pytest.raises(RunError, match=r"--workers\.wait-s 0\.2: no actor was ready"):
        next(first_within(0.2, wait_for_ever()))


def build(released: str) -> str:
    return f"model of {released}"


def run_recipe(recipe: ActorRecipe) -> str:
    return recipe()


def test_an_actor_that_is_ready_has_all_the_time_it_needs_for_its_first_block():
    recipe = ActorRecipe(f"{__name__}:build", {"released": "today"})
    assert ray.get(ray.remote(num_cpus=0)(run_recipe).remote(recipe)) == "model of today"
    assert is_reached(ACTOR, READY)
    asked = threading.Event()
    late = threading.Timer(0.6, asked.set)

    def slow_blocks():
        late.start()
        asked.wait()
        yield "block"

    assert list(first_within(0.1, slow_blocks())) == ["block"]


def test_ctrl_c_before_the_time_is_over_stays_ctrl_c():
    def interrupted():
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        next(first_within(60, interrupted()))
