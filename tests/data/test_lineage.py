"""What was made from a run is found by the ids and addresses that each folder names."""

import json

import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.commands.erasure.delete_rows import DeleteRows
from faceattr.commands.erasure.lineage import Lineage
from faceattr.config import StorageConfig
from faceattr.data.lineage import describe_data, find_works, read_work, trace
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.version import read_record
from faceattr.data.stores.local import LocalStore
from tests.label_runs import write_label_run
from tests.packed_runs import write_packed_run

NO_PLAN = Plan(num_rows=0, num_bytes=0, shard_size=1, parts=())
STORAGE = StorageConfig()


def begin(folder, kind, *, fingerprint=None, source=None, notes=None, config=None):
    """The run.json that a job writes."""
    return open_run(
        LocalStore(folder),
        kind=kind,
        fingerprint=fingerprint or {},
        config=config or {},
        versions={},
        notes=notes or {},
        write_plan=lambda: (NO_PLAN, source or {}, pa.schema([])),
    )


def world(tmp_path):
    """run -> packed -> model -> predictions; run -> audit; another run -> other; a model of an earlier version."""
    rows = {name: (name.encode(), {"hat": 1, "hat_score": 0.9}) for name in ("a.jpg", "b.jpg", "c.jpg")}
    run = write_label_run(tmp_path / "run", ["hat"], rows, root=tmp_path)
    write_label_run(tmp_path / "stranger", ["hat"], rows, root=tmp_path)
    run_id = read_record(LocalStore(tmp_path / "run")).run_id
    pack(tmp_path, "packed", run, run_id, version=1)
    packed = open_packed([str(tmp_path / "packed")], needs=())
    model = begin(tmp_path / "models" / "m1", "train", source=describe_data(packed))
    begin(tmp_path / "models" / "old", "train", source={"data": [str(tmp_path / "packed")], "fingerprint": "x"})
    begin(tmp_path / "models" / "m2", "train", notes={"resumed_from": {"run_id": model.run_id, "uri": "elsewhere"}})
    begin(tmp_path / "predictions", "prediction", config={"model": str(tmp_path / "models" / "m1" / "best")})
    (tmp_path / "audit").mkdir()
    audit = {"schema_version": 1, "run_id": run_id, "table": run, "version": 1}
    (tmp_path / "audit" / "audit.json").write_text(json.dumps(audit))
    (tmp_path / "eval").mkdir()
    evaluation = {"schema_version": 1, "config": {"model": str(tmp_path / "models" / "m2"), "data": []}}
    (tmp_path / "eval" / "evaluation.json").write_text(json.dumps(evaluation))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "run.json").write_text('{"of": "another program"}')
    return run, run_id


def pack(tmp_path, name, run, run_id, *, version):
    split = [{"image": b"x", "hat": 1}]
    fingerprint = {"labels": {run: {"run_id": run_id, "version": version}}}
    attributes = AttributeSet(attributes=(Attribute(name="hat"),))
    write_packed_run(tmp_path / name, attributes, {"train": split, "val": split}, fingerprint=fingerprint)


def test_everything_that_was_made_from_a_run_is_reached_once(tmp_path):
    run, _ = world(tmp_path)
    works = find_works([str(tmp_path)], STORAGE)
    reached = trace(read_work(run, STORAGE), works)
    found = {each.work.uri.removeprefix(f"{tmp_path}/"): each for each in reached}
    sources = {name: each.source.uri.removeprefix(f"{tmp_path}/") for name, each in found.items()}
    assert sources == {
        "packed": "run",
        "audit": "run",
        "models/m1": "packed",
        "models/old": "packed",
        "models/m2": "models/m1",
        "predictions": "models/m1",
        "eval": "models/m2",
    }
    assert {name: each.version for name, each in found.items()} == dict.fromkeys(sources, 1)
    assert found["models/m1"].work.kind == "train"
    model = read_work(str(tmp_path / "models" / "m1"), STORAGE)
    assert {each.work.uri.removeprefix(f"{tmp_path}/") for each in trace(model, works)} == {
        "models/m2",
        "predictions",
        "eval",
    }
    assert trace(read_work(str(tmp_path / "stranger"), STORAGE), works) == []


def test_the_command_tells_what_was_made_before_a_deletion(tmp_path, capsys):
    run, run_id = world(tmp_path)
    (tmp_path / "ids.txt").write_text("b.jpg\n")
    assert DeleteRows(run=run, ids=str(tmp_path / "ids.txt"))() == 0
    pack(tmp_path, "packed-again", run, run_id, version=2)
    capsys.readouterr()
    assert Lineage(run=run, json=True)() == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["last_deletion"], found["searched"]) == (2, [str(tmp_path)])
    holds = {each["uri"].rpartition("/")[2]: each["may_hold_deleted_rows"] for each in found["reached"]}
    assert {name for name, may in holds.items() if not may} == {"packed-again"}
    assert len(holds) == 8
    assert Lineage(run=run, below=(str(tmp_path / "models"), str(tmp_path / "packed")))() == 0
    text = capsys.readouterr().out
    assert "4 made from it, below" in text
    assert "of version 1, before the last deletion: it may hold deleted rows" in text
    assert "cannot be known:" in text
