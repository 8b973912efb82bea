import pytest

from faceattr.jobs.cluster.session import worthwhile_actors


@pytest.mark.parametrize(
    ("gflop", "threads", "actors"),
    [
        (300 * 0.26, 1, 1),  # 78 GFLOP are 2.6 s at 30 GFLOP/s: less than the 5 s of one start
        (2_000 * 0.26, 1, 3),  # 17.3 s, three starts
        (2_000 * 0.26, 2, 1),  # 8.7 s on two cores
        (300 * 120.0, 1, 240),  # as large as BLIP base: 1,200 s
    ],
)
def test_an_actor_more_has_as_much_to_do_as_its_start_costs(gflop: float, threads: int, actors: int) -> None:
    assert worthwhile_actors(gflop, threads=threads) == actors
