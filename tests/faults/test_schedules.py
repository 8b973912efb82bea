"""Random schedules of faults: what they draw, what they would notice, and one of them for real."""

import pyarrow as pa
import pytest

from tests.faults.schedules.draw import Disturbance, draw_schedule
from tests.faults.schedules.run import run_schedule, run_undisturbed
from tests.faults.schedules.tables import LABEL
from tests.faults.schedules.world import open_world


def draw(seed) -> list[Disturbance]:
    return draw_schedule(seed, num_parts=LABEL.num_parts, processes=LABEL.processes)


def test_a_seed_is_a_schedule():
    assert draw(17) == draw(17)
    assert draw(17) != draw(18)


def test_seeds_reach_every_kind_of_disturbance_and_every_process():
    drawn = [each for seed in range(200) for each in draw(seed)]
    assert {each.kind for each in drawn} == {
        *(
            "kill driver",
            "terminate driver",
            "freeze driver, start another",
            "kill process",
            "freeze store",
            "kill store",
        ),
        *("answers", "no conditions", "disk full"),
    }
    assert {each.target for each in drawn if each.kind == "kill process"} == set(LABEL.processes)
    assert {each.answer[0] for each in drawn if each.kind == "answers"} == {
        *("error", "reset", "cut", "short", "flip", "lost_ack"),
    }
    assert all(0 <= each.after < LABEL.num_parts and each.seconds <= 30 for each in drawn)


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_a_few_schedules_of_a_label_run(tmp_path):
    with open_world(tmp_path) as world:
        LABEL.prepare(world)
        expected = run_undisturbed(world, LABEL)
        assert isinstance(expected, pa.Table)
        assert [seed for seed in range(3) if not run_schedule(world, LABEL, seed, expected)] == []
