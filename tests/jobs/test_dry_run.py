"""What a dry run advises, by rates made by hand. `test_label.py` runs a whole one."""

import pytest

from faceattr.jobs.cluster.session import ActorLayout
from faceattr.jobs.images.dry_run import advise_workers


def layout(max_actors: int, *, gpus: float, threads: int = 1) -> ActorLayout:
    cpus = 0.0 if gpus else float(threads)
    return ActorLayout(
        min_actors=max_actors, max_actors=max_actors, gpus=gpus, cpus=cpus, threads=threads, batch_size=64
    )


# 4 ms of reading by four readers a core, and 9 ms of decoding: 10 ms of a core an image, 11 with headroom.
TIMES = {"read_s": 0.004, "decode_s": 0.009}


@pytest.mark.parametrize(
    ("actors", "cpus", "score_s", "words"),
    [
        # An actor takes an image each 2 ms: 5.5 cores feed it.
        (layout(2, gpus=1), 16.0, 0.002, "11 of the 16 cores keep 2 actors busy"),
        (
            layout(4, gpus=0.5),
            16.0,
            0.002,
            "22 cores would keep 4 actors busy with images, the cluster has 16: add cores, ",
        ),
        (layout(4, gpus=0.5), 16.0, 0.002, "--workers.max-actors 2 is as fast"),  # 16 / 5.5 = 2.9
        (layout(1, gpus=1), 4.0, 0.002, "--workers.max-actors 1 is as fast"),  # not none
        # On CPUs an image takes 44 ms on 2 threads, so 0.25 of a core feeds the actor: 16 / 2.25 = 7.1.
        (layout(8, gpus=0, threads=2), 16.0, 0.044, "--workers.max-actors 7: "),
        (layout(1, gpus=0), 1.0, 0.044, "--workers.max-actors 1: "),
    ],
)
def test_actors_and_cores_that_fit_each_other(actors, cpus, score_s, words):
    assert words in advise_workers(actors, cpus, score_s=score_s, **TIMES)
