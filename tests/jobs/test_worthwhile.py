import pytest

from faceattr.jobs.cluster.machines.worthwhile import worthwhile_actors, worthwhile_decoders


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


@pytest.mark.parametrize(
    ("images", "num_bytes", "faces", "decoders"),
    [
        (300, 300 * 4_000, False, 1),  # .8 s: less than the 4 s of one start
        (10_000, 10_000 * 10_000, False, 7),  # 27 s and 1.6 s
        (300, 300 * 6_000_000, False, 7),  # photos of 12 megapixels: .8 s and 28.8 s
        (300, 300 * 4_000, True, 2),  # faces are looked for: 9.8 s
        (300, 0, False, None),  # a manifest does not say how large they are
    ],
)
def test_a_decoder_more_has_as_much_to_do_as_its_start_costs(
    images: int, num_bytes: int, faces: bool, decoders: int | None
) -> None:
    assert worthwhile_decoders(images, num_bytes, faces=faces) == decoders
