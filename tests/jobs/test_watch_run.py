"""What is closed and noted when a session over a run ends, well or badly."""

import json
import threading

import pyarrow as pa
import pytest

from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import OK
from faceattr.data.runs.plan import plan_schema, write_plan
from faceattr.data.runs.version import RunVersion
from faceattr.errors import RunError
from faceattr.jobs.cluster.progress import ErrorBudget
from faceattr.jobs.cluster.watch_run import watch_run
from tests.fakes.stores import MemoryStore

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False), ("uri", pa.string()), ("status", pa.string())])


@pytest.fixture
def version():
    """A run of five images in shards of two, none of which is done."""
    store, names = MemoryStore(), [f"{number}.jpg" for number in range(5)]
    table = pa.Table.from_pylist([{"image_id": name, "uri": name} for name in names], schema=plan_schema())
    settings = {"kind": "label", "fingerprint": {}, "config": {}, "versions": {}, "notes": {}}
    record = open_run(
        store, **settings, write_plan=lambda: (write_plan(store, [table], shard_size=2), {}, pa.schema([]))
    )
    return RunVersion(store, record, SCHEMA)


def rows(*statuses):
    return pa.table(
        {
            "row": range(len(statuses)),
            "uri": ["x.jpg"] * len(statuses),
            "status": statuses,
            "error": [None if status == OK else "broken" for status in statuses],
        }
    )


def sessions(version):
    return [json.loads(version.store.get(entry.key)) for entry in version.store.list("sessions/")]


def gauges_run() -> bool:
    return any(thread.name == "gauges" for thread in threading.enumerate())


def test_a_session_is_noted_and_its_gauges_end_with_it(version):
    work = version.work()
    assert work.num_rows == 5
    with watch_run(version, work, ErrorBudget(0.5, 5)) as on_rows:
        assert gauges_run()
        on_rows(rows(OK, "missing", OK))
    assert not gauges_run()
    (session,) = sessions(version)
    assert (session["rows"], session["version"], session["samples"][-1][1]) == (3, version.version, 3)


def test_rows_that_break_the_budget_end_the_session_which_is_noted(version):
    with (
        pytest.raises(RunError, match="1 of 5 images"),
        watch_run(version, version.work(), ErrorBudget(0.1, 5)) as on_rows,
    ):
        on_rows(rows(OK, "missing"))
    assert not gauges_run()
    assert [session["rows"] for session in sessions(version)] == [2]


def test_earlier_rejects_that_are_too_many_open_nothing(version):
    with (
        pytest.raises(RunError, match="found by earlier sessions"),
        watch_run(version, version.work(), ErrorBudget(0.1, 5, lambda: 3)),
    ):
        raise AssertionError("the block was entered")
    assert not gauges_run()
    assert sessions(version) == []


def test_a_step_of_a_run_is_judged_but_neither_exported_nor_noted(version):
    with watch_run(version, version.work(), ErrorBudget(0.1, 5), is_whole_run=False) as on_rows:
        assert not gauges_run()
        with pytest.raises(RunError, match="1 of 5 images"):
            on_rows(rows("missing"))
    assert sessions(version) == []
