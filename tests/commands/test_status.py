"""`faceattr status` on run folders that were made by the package's own parts, half-way and whole."""

import dataclasses
import json
import os
import threading

import numpy as np
import pyarrow as pa
import pytest

from faceattr.cli import main as faceattr
from faceattr.commands.status import describe_status
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import OK, commit_all
from faceattr.data.runs.lease import acquire_lease, find_driver, hold_lease
from faceattr.data.runs.plan import plan_schema, write_plan
from faceattr.data.runs.status import read_run_status
from faceattr.data.runs.version import RunVersion
from faceattr.data.stores.local import LocalStore
from faceattr.errors import RunError
from faceattr.search.records import Judgement, TrialRecord, begin_trial, end_trial

SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False), ("status", pa.string())])
NUM_ROWS = 600  # shards of 256, 256 and 88 rows


def begin(store):
    def plan():
        ids = [f"{number:04d}.jpg" for number in range(NUM_ROWS)]
        columns = {"image_id": ids, "uri": ids, "num_bytes": [1] * NUM_ROWS, "etag": [None] * NUM_ROWS}
        table = pa.table({**columns, "source_row": pa.nulls(NUM_ROWS, pa.int64())}, schema=plan_schema())
        return write_plan(store, [table]), {"root": "x"}, pa.schema([])

    versions = {"faceattr": "0.1.0", "torch": "2.13.0"}
    return open_run(store, kind="label", fingerprint={}, config={}, versions=versions, notes={}, write_plan=plan)


def rows(start, stop):
    """Each hundredth row is missing."""
    numbers = np.arange(start, stop)
    status = ["missing" if number % 100 == 0 else OK for number in numbers]
    return pa.table({"row": numbers, "status": status}, schema=SCHEMA)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "run")


def test_a_folder_without_a_run(store, capsys):
    assert faceattr(["status", store.uri]) == 2
    assert "holds no run: no run.json" in capsys.readouterr().err


def test_a_run_whose_input_is_being_listed(store):
    acquire_lease(store)
    status = read_run_status(store)
    assert (status.state, status.kind, status.num_rows) == ("planning", None, None)


def test_a_run_that_works(store):
    record = begin(store)
    acquire_lease(store)
    version = RunVersion(store, record, SCHEMA)
    version.committer(version.work()).add(rows(0, 520))
    status = read_run_status(store)
    assert status.state == "running"
    assert status.driver["pid"] > 0
    assert (status.num_committed, status.num_rows, status.num_shards) == (512, 600, 2)
    assert status.rejects == {"missing": 6}  # rows 0, 100, ... 500
    text = describe_status(store.uri, status)
    assert "rows       512 of 600 (85.3%) in 2 shards" in text
    assert "versions   faceattr 0.1.0, torch 2.13.0" in text
    few = read_run_status(store, count_rejects_in=1)
    assert few.rejects is None
    assert "not counted" in describe_status(store.uri, few)


def test_the_rate_of_a_run_that_works_is_that_of_its_commits(store):
    record = begin(store)
    version = RunVersion(store, record, SCHEMA)
    version.committer(version.work()).add(rows(0, 600))
    times = {0: 1_000.0, 1: 5_000.0, 2: 5_004.0}  # the first one is outside of the window of ten minutes

    class Timed(LocalStore):
        def list(self, prefix=""):
            for entry in super().list(prefix):
                if "shard-" in entry.key:
                    yield dataclasses.replace(entry, modified_s=times[int(entry.key[-16:-8])])
                else:
                    yield entry

    acquire_lease(store)
    status = read_run_status(Timed(store.root))
    assert status.rate == 88 / 4  # the rows of shard 2, in the time since shard 1


def test_a_run_that_was_stopped(store, capsys):
    record = begin(store)
    acquire_lease(store).release()
    version = RunVersion(store, record, SCHEMA)
    version.committer(version.work()).add(rows(256, 512))
    session = {"started": 1_700_000_000.0, "version": 1, "rows": 300, "samples": [[10.0, 100], [20.0, 300]]}
    store.put("sessions/1700000000.000.json", json.dumps(session).encode())
    assert faceattr(["status", store.uri]) == 0
    shown = capsys.readouterr().out
    assert "state      stopped" in shown
    assert "rows       256 of 600 (42.7%) in 1 shards" in shown
    assert "rate       20.0 rows/s" in shown  # 200 rows in 10 s
    assert "session    2023-11-14T22:13:20Z 300 rows" in shown
    assert "rejected   missing 3" in shown  # rows 300, 400, 500
    assert "the same command resumes it" in shown


def test_a_run_that_is_published(store, capsys):
    record = begin(store)
    version = RunVersion(store, record, SCHEMA)
    commit_all(version.committer(version.work()), [rows(0, 600)], on_rows=lambda table: None)
    version.publish(version.verify())
    assert faceattr(["status", store.uri]) == 0
    shown = capsys.readouterr().out
    assert "state      published" in shown
    assert "rows       600 of 600 (100.0%) in 3 shards" in shown
    assert "rejected   missing 6" in shown


def test_the_shards_of_a_run_inside_the_folder_are_not_counted(store, tmp_path):
    inner = LocalStore(tmp_path / "run" / "scan")
    for each, stop in ((store, 256), (inner, 600)):
        version = RunVersion(each, begin(each), SCHEMA)
        version.committer(version.work()).add(rows(0, stop))
    status = read_run_status(store)
    assert (status.num_committed, status.num_shards) == (256, 1)


def put_run(store, kind):
    no_plan = {"num_rows": 0, "num_bytes": 0, "shard_size": 1, "parts": []}
    record = {"kind": kind, "versions": {"torch": "2.13.0"}, "plan": no_plan, "schema_version": 1}
    store.put("run.json", json.dumps(record).encode())


EPOCH = {
    "epoch": 1.0,
    "lr": 1e-3,
    "train/loss": 0.5,
    "train/hat/loss": 0.5,
    "val/loss": 0.25,
    "images_per_s": 812.34,
    "data_wait_share": 0.0149,
    "val/hat/f1": 0.91234,
    "val/hat/auc": None,
    "val/hat/count": 1589.0,
    "val/age/macro_f1": 0.5,
    "val/age/f1/0-2": 0.75,
    "val/age/empty_classes": 0.0,
    "ended": 1_700_000_000.0,
}


def test_a_training_run(store, capsys):
    put_run(store, "train")
    lines = [{**EPOCH, "epoch": 0.0}, EPOCH]
    store.put("metrics.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    assert faceattr(["status", store.uri]) == 0
    assert capsys.readouterr().out.splitlines()[1:-1] == [
        "kind       train",
        "state      stopped",
        "epoch      2, ended 2023-11-14T22:13:20Z",
        "loss       train 0.5000, val 0.2500",
        "rate       812.3 images/s, data wait 1.5%",
        "hat        f1 0.912",
        "age        macro_f1 0.500",
        "versions   torch 2.13.0",
    ]
    store.put("config.json", b"{}")
    assert read_run_status(store).state == "published"


def test_a_published_training_shows_the_epoch_of_its_model(store, capsys):
    put_run(store, "train")
    lines = [{**EPOCH, "epoch": float(number), "val/hat/f1": 0.5 + number / 10} for number in range(4)]
    store.put("metrics.jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    for epoch in (2, 4):  # the best and the last
        store.put(f"checkpoints/epoch-{epoch:05d}.checkpoint.json", b"{}")
    faceattr(["status", store.uri])
    assert "epoch      4, ended 2023-11-14T22:13:20Z\n" in capsys.readouterr().out
    store.put("config.json", b"{}")
    faceattr(["status", store.uri])
    shown = capsys.readouterr().out
    assert "epoch      2, the best of 4 and the model's, ended 2023-11-14T22:13:20Z\n" in shown
    assert "hat        f1 0.600\n" in shown


def put_trial(store, number, status, objective):
    judgement = Judgement(objective=objective, auxiliary=None, by_attribute={"hat": objective}, thresholds={})
    begin_trial(store, number, {"optim.lr": 1e-3})
    end_trial(store, TrialRecord(number=number, values={"optim.lr": 1e-3}, status=status, judgement=judgement))


def test_a_search(store, capsys):
    put_run(store, "search")
    assert faceattr(["status", store.uri]) == 0
    assert "trials     0 over\n" in capsys.readouterr().out
    for number, (status, objective) in enumerate([("finished", 0.5), ("stopped", 0.9), ("finished", 0.625)]):
        put_trial(store, number, status, objective)
    assert faceattr(["status", store.uri]) == 0
    shown = capsys.readouterr().out
    assert "trials     3 over: 2 finished, 1 stopped\nbest       t0002, objective 0.6250\n" in shown
    assert "state      stopped" in shown


def test_a_search_is_done_when_its_report_is_newer_than_its_trials(store):
    put_run(store, "search")
    put_trial(store, 0, "finished", 0.5)
    store.put("report.html", b"")
    assert read_run_status(store).state == "published"
    begin_trial(store, 1, {"optim.lr": 1e-3})  # resumed with more trials
    later = store.root / "trials" / "t0001" / "trial.json"
    os.utime(later, (later.stat().st_atime, later.stat().st_mtime + 5))
    assert read_run_status(store).state == "stopped"


def test_why_a_run_stopped(store, capsys):
    begin(store)
    with pytest.raises(RunError), hold_lease(store, on_lost=lambda error: None):
        raise RunError("too many images are bad:\n  truncated: 7")
    assert faceattr(["status", store.uri]) == 0
    shown = capsys.readouterr().out
    assert "state      stopped\nwhy        too many images are bad:\n             truncated: 7\nrows " in shown
    with hold_lease(store, on_lost=lambda error: None):
        assert read_run_status(store).stop_reason is None  # it resumes
    assert read_run_status(store).stop_reason is None
    with pytest.raises(KeyboardInterrupt), hold_lease(store, on_lost=lambda error: None):
        raise KeyboardInterrupt
    assert read_run_status(store).stop_reason == "stopped by the user"


def test_a_driver_on_another_machine_is_watched(store):
    lease = acquire_lease(store)
    beats = iter([True, True, False])

    def sleep(seconds):
        if next(beats):
            lease.beat()

    elsewhere = {"is_alive": lambda owner: None, "sleep": sleep}
    assert find_driver(store, **elsewhere)["pid"] > 0
    assert find_driver(store, is_alive=lambda owner: None, sleep=lambda seconds: None) is None
    assert find_driver(store, is_alive=lambda owner: False) is None
    lease.release()
    assert find_driver(store) is None


def test_programs_read_json(store, capsys):
    begin(store)
    assert faceattr(["status", store.uri, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = {"schema_version": 1, "uri": store.uri, "kind": "label", "state": "stopped", "num_rows": NUM_ROWS}
    assert wanted.items() <= found.items()
    assert found["trials"] == {}


@pytest.mark.parametrize("flag", ["--wait", "--watch"])
def test_a_run_that_works_is_waited_for(store, capsys, flag):
    lease = acquire_lease(store)
    record = begin(store)

    def finish():
        version = RunVersion(store, record, SCHEMA)
        commit_all(version.committer(version.work()), [rows(0, 600)], on_rows=lambda table: None)
        version.publish(version.verify())
        lease.release()

    worker = threading.Timer(0.1, finish)
    worker.start()
    assert faceattr(["status", store.uri, flag, "--interval-s", "0.01"]) == 0
    worker.join()
    shown = capsys.readouterr().out
    assert "state      published" in shown
    assert shown.rstrip().endswith("versions   faceattr 0.1.0, torch 2.13.0")


def test_a_run_that_stopped_is_told_apart_by_the_exit_code(store, capsys):
    begin(store)
    assert faceattr(["status", store.uri]) == 0
    assert faceattr(["status", store.uri, "--wait"]) == 1
    assert "state      stopped" in capsys.readouterr().out
    assert faceattr(["status", store.uri, "--interval-s", "0"]) == 2
