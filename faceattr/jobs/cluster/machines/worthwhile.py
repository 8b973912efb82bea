"""How many processes a short run is worth: one more must have as much to do as its own start costs.

The figures are of the two cores in docs/benchmarks.md. They decide nothing in a long run, which is worth them all.
"""

# What an actor costs before its first image on a core: imports, weights, self-test (tests/benchmarks/bench_start.py).
_ACTOR_START_S = 5.0
# What a core computes with the built-in model: 241 images/s of .26 GFLOP on two actors. Large models reach two to three
# times as much, and with them any run is long enough for all actors.
_CORE_GFLOP_PER_S = 30.0
# What a worker costs before its first image: Python, Ray, pyarrow, and torch for the resize.
_WORKER_START_S = 4.0
# Decoding and resizing an image of few bytes, and what each byte of a JPEG adds: .1 s for a photo of 6 MB.
_DECODE_IMAGE_S = 0.0027
_DECODE_BYTE_S = 16e-9
_FACES_IMAGE_S = 0.03  # finding faces in it (tests/benchmarks/bench_faces.py)


def worthwhile_actors(gflop: float, *, threads: int) -> int:
    """Returns how many actors on CPUs have as much to do as their own start costs: with more, a run would end later.

    Args:
        gflop: GFLOP of all images.
        threads: cores that an actor computes on.
    """
    return max(1, int(gflop / (_CORE_GFLOP_PER_S * threads) / _ACTOR_START_S))


def worthwhile_decoders(num_images: int, num_bytes: int, *, faces: bool) -> int | None:
    """Returns how many workers that read and decode have as much to do as their own start costs.

    Args:
        num_images: images of the run that are left.
        num_bytes: their size as files; 0 if it is not known.
        faces: whether faces are looked for in them.

    Returns:
        the number, at least 1; None if it cannot be known.
    """
    if not num_bytes:
        return None
    seconds = num_images * (_DECODE_IMAGE_S + _FACES_IMAGE_S * faces) + num_bytes * _DECODE_BYTE_S
    return max(1, int(seconds / _WORKER_START_S))
