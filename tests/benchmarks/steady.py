"""How fast a run was once it ran, by what its session noted."""

import json
from pathlib import Path


def steady_rate(output: Path, *, workers: int, block_rows: int) -> float:
    """Images a second from when each worker has sent its first block to the end, so without start-up.

    The workers' first blocks arrive together, and were begun before the clock: counting them would flatter.
    """
    (session,) = (json.loads(path.read_text()) for path in (output / "sessions").iterdir())
    begin_s, before = next(each for each in session["samples"] if each[1] >= workers * block_rows)
    end_s, after = session["samples"][-1]
    return (after - before) / (end_s - begin_s)
