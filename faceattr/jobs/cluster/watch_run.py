"""What a driver does with the rows of its run as they arrive: shows progress, exports metrics, checks the error share.

sessions/1700000000.123.json    when a session began, how many rows were done after how many seconds, and what it
                                waited for
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from faceattr.data.formats.json_files import encode_versioned
from faceattr.data.runs.pending import PendingShards
from faceattr.data.runs.version import RunVersion
from faceattr.data.stores.patience import write_on_the_way_out
from faceattr.jobs.cluster.metrics import RunRows
from faceattr.jobs.cluster.progress import ErrorBudget, Progress


@contextlib.contextmanager
def watch_run(
    version: RunVersion,
    work: PendingShards,
    budget: ErrorBudget,
    *,
    positives: Sequence[str] = (),
    stage_shares: Callable[[], Mapping[str, float]] | None = None,
    is_whole_run: bool = True,
) -> Iterator[Callable[[pa.Table], None]]:
    """Watches the pending rows of a run inside the block, and closes everything it opened however the block ends.

    Args:
        version: the version of the run that the session works on.
        work: the pending shards of the session.
        budget: limit on rejected rows. It judges once before the block, by the rejects of earlier sessions.
        positives: binary attributes whose positive rate is shown.
        stage_shares: returns what the session waited for, where that is measured; see `faceattr.data.runs.limit`.
        is_whole_run: whether the session is exported to Prometheus and recorded in `sessions/`. False for a scan, which
            is only the first step of packing.

    Yields:
        A function to be called with every table of rows that arrives. It raises RunError once too many rows are bad.

    Raises:
        RunError: earlier sessions found too many bad images.
    """
    budget.judge()
    total = version.num_rows
    progress = Progress(total, total - work.num_rows, positives)
    with contextlib.ExitStack() as closed:  # closes in reverse order, each even if another fails
        gauges = None
        if is_whole_run:
            gauges = closed.enter_context(contextlib.closing(RunRows(total, total - work.num_rows)))
            closed.callback(_note_session, version, progress, stage_shares, started=time.time())
        closed.callback(progress.close)

        def on_rows(rows: pa.Table) -> None:
            progress.add(rows)
            if gauges is not None:
                gauges.add(len(rows))
            budget.add(rows)

        yield on_rows


def _note_session(
    version: RunVersion, progress: Progress, stage_shares: Callable[[], Mapping[str, float]] | None, *, started: float
) -> None:
    """Writes the record of this session for later sessions and reports; `started` is in seconds since 1970."""
    session: dict[str, Any] = {
        "started": started,
        "version": version.version,
        "samples": progress.samples,
        "rows": progress.num_rows,
    }
    if stage_shares is not None:
        session["stages"] = stage_shares()
    key, data = f"sessions/{started:.3f}.json", encode_versioned(session)
    write_on_the_way_out(lambda: version.store.put(key, data), key)
