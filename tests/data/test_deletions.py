"""Deletion on request: the rows, their names and every older file are gone, and no later version brings them back."""

import itertools
import json

import pytest

from faceattr.commands.combine import Combine
from faceattr.commands.diff import Diff
from faceattr.commands.erasure.delete_rows import DeleteRows
from faceattr.commands.status import Status
from faceattr.config import StorageConfig
from faceattr.data.packed.reader import PACK_KIND
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.changes.change import find_deletion, refuse_begun_deletion
from faceattr.data.runs.changes.deletion import begin_deletion, end_deletion, read_deletions
from faceattr.data.runs.changes.rewriting import rewrite_shards
from faceattr.data.runs.changes.update import find_updates
from faceattr.data.runs.plan import read_part
from faceattr.data.runs.status import read_run_status
from faceattr.data.runs.verification import verify_published
from faceattr.data.runs.version import RunVersion, read_manifest, read_record
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError, RunError
from tests.data.test_updates import AFTER, BEFORE, SCHEMA, check_is, images_of, label, process, rows_of, update
from tests.fakes.stores import HookedStore, MemoryStore, SimulatedCrash
from tests.label_runs import write_label_run

# One image that stayed, one that changed, one that is new, one that is gone already, and one that was never there.
ASKED = ("04.jpg", "05.jpg", "new-1.jpg", "10.jpg", "never.jpg")
LEFT = {name: data for name, data in AFTER.items() if name not in ASKED}


class ErasingStore(MemoryStore):
    """A store in memory from which files may be deleted."""

    def delete(self, key):
        self.objects.pop(key, None)


def delete(store, ids=ASKED):
    """What `delete-rows` does, without its report."""
    record = read_record(store)
    change = find_deletion(store) or begin_deletion(store, record, read_manifest(store), ids, request_sha256="ab" * 32)
    if change is None:
        return None
    manifest = read_manifest(store)
    if manifest.version < change.version:
        version = RunVersion(store, record, SCHEMA, change=change)
        rewrite_shards(version)
        manifest = version.verify()
        version.publish(manifest)
    end_deletion(store, record, change, manifest)
    return change


def begun():
    """A run of two versions, with all kinds of rows, and a report for each."""
    store = ErasingStore()
    label(store, BEFORE, bad=frozenset(["00.jpg"]))
    update(store, AFTER)
    for name in ("report.html", "report-v2.html", "notes.txt"):
        store.put(name, b"04.jpg is a face" if name.startswith("report") else b"mine")
    return store


def names_left(store):
    """What of the asked ids can still be read anywhere in the folder, decoded files included."""
    texts = [data for key, data in store.objects.items() if key.endswith((".json", ".html", ".txt"))]
    parts = read_manifest(store).extent.plan.parts
    texts += [json.dumps(read_part(store, part).to_pylist()).encode() for part in parts]
    texts += [json.dumps(rows_of(store)).encode()]
    return {name for name in ASKED if any(name.encode() in text for text in texts)}


def test_rows_names_and_older_files_are_gone():
    store = begun()
    before = read_manifest(store)
    change = delete(store)
    manifest = read_manifest(store)
    assert names_left(store) == set()
    rows = {row["image_id"]: row for row in rows_of(store)}
    assert set(rows) == set(LEFT)
    assert (manifest.version, manifest.num_rows) == (3, len(LEFT))
    # 04 and 05 are rows 4 and 20; new-1 is row 23; 10 was left out before, and its row is blank now.
    assert {key: change.facts[key] for key in ("num_ids", "num_unknown", "num_rows")} == {
        "num_ids": 5,
        "num_unknown": 1,
        "num_rows": 3,
    }
    kept = {file.key for file in before.files} & {file.key for file in manifest.files}
    assert [file.shard for file in before.files if file.key in kept] == [0, 2, 3, 4]
    named = {file.key for file in manifest.files} | {part.key for part in manifest.extent.plan.parts}
    named |= {file.key for file in manifest.extent.files}
    assert set(store.objects) == named | {
        "run.json",
        "_manifest-v3.json",
        "_SUCCESS",
        "notes.txt",
        "deletions/v3.json",
    }
    (record,) = read_deletions(store)
    assert record["request_sha256"] == "ab" * 32
    assert (record["num_rows"], record["version"]) == (3, 3)
    assert record["begun"] <= record["ended"]
    assert delete(store) is None


def test_nothing_brings_the_rows_back():
    store = begun()
    record = label(store, AFTER)
    delete(store)
    assert update(store, {**AFTER, "never.jpg": b"day 3"}) == []  # all of them are still in the bucket
    (change,) = update(store, {**AFTER, "never.jpg": b"day 3", "04.jpg": b"replaced", "later.jpg": b"day 3"})
    assert (change.facts["new"], change.facts["withheld"]) == (1, 4)
    version = RunVersion(store, record, SCHEMA, retry_failed=True)
    process(store, version, {**LEFT, "later.jpg": b"day 3"})
    check_is(store, {**LEFT, "later.jpg": b"day 3"})
    version = RunVersion(store, record, SCHEMA, decisions={"hat": {"threshold": 0.7}})
    work = version.work()
    assert work.num_rows > 0
    relabelled = [work.redo_of[shard] for shard in work.pending.tolist()]
    assert sum(file.num_rows for file in relabelled) == len(LEFT) + 1
    assert names_left(store) == set()


def test_a_crash_at_every_call_then_the_same_command():
    template = begun()
    for calls in itertools.count():
        inner, left, when = ErasingStore(), [calls], ("before", "after")[calls % 2]
        inner.objects = dict(template.objects)

        def hook(moment, name, key, left=left, when=when):
            if moment == when:
                left[0] -= 1
                if left[0] < 0:
                    raise SimulatedCrash(f"{name} {key}")

        try:
            delete(HookedStore(inner, hook))
        except SimulatedCrash:
            found = {row["image_id"] for row in rows_of(inner)}
            assert found == set(LEFT if read_manifest(inner).version == 3 else AFTER)
            if find_deletion(inner) is not None:
                with pytest.raises(RunError, match="a deletion was begun here"):
                    refuse_begun_deletion(inner)
        else:
            assert calls > 20
            return
        delete(inner)
        assert {row["image_id"] for row in rows_of(inner)} == set(LEFT)
        assert names_left(inner) == set()
        assert [key for key in inner.objects if key.startswith(("deletion-", "report", "left-out"))] == []


def test_an_update_that_was_begun_and_is_overtaken_leaves_no_names():
    store = begun()
    record = read_record(store)
    next(find_updates(store, record, lambda: images_of({**AFTER, "new-9.jpg": b"x"})))
    assert "update-v3.json" in store.objects
    delete(store, ("new-9.jpg",))
    assert "update-v3.json" not in store.objects
    parts = {part.key for part in read_manifest(store).extent.plan.parts}
    assert {key for key in store.objects if key.startswith("plan/") and key.endswith(".parquet")} - parts == {
        read_manifest(store).extent.removed.key
    }


def test_all_rows_are_refused():
    store = begun()
    with pytest.raises(ConfigError, match="these are all of its rows"):
        begin_deletion(store, read_record(store), read_manifest(store), list(AFTER), request_sha256="")


def run_of_three(tmp_path):
    images = {name: (name.encode(), {"hat": 1, "hat_score": 0.9}) for name in ("a.jpg", "b.jpg", "c.jpg")}
    return write_label_run(tmp_path / "run", ["hat"], images, root=tmp_path)


def test_the_command_deletes_reports_and_verifies(tmp_path, capsys):
    run = run_of_three(tmp_path)
    (tmp_path / "ids.txt").write_bytes(b"\xef\xbb\xbfb.jpg\r\nz.jpg\r\n\r\n")
    assert DeleteRows(run=run, ids=str(tmp_path / "ids.txt"))() == 0
    out = capsys.readouterr().out
    assert "published version 2: 2 rows in 1 file" in out
    assert "deleted 1 rows of 2 ids; 1 ids were not in the run" in out
    store = LocalStore(tmp_path / "run")
    assert [row["image_id"] for row in rows_of(store)] == ["a.jpg", "c.jpg"]
    assert (tmp_path / "run" / "report-v2.html").is_file()
    assert verify_published(store, StorageConfig()).problems == ()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path.name for path in files if b"b.jpg" in path.read_bytes()] == []
    assert DeleteRows(run=run, ids=str(tmp_path / "ids.txt"))() == 0
    assert "nothing to do" in capsys.readouterr().out
    status = read_run_status(store)
    assert (status.state, status.num_rows, status.num_committed, status.num_deletions) == ("published", 2, 2, 1)
    assert status.change["num_rows"] == 1
    assert Status(run=run)() == 0
    assert "deletion   2 num_ids, 1 num_unknown, 1 num_rows" in capsys.readouterr().out


def test_what_cannot_be_done_is_refused(tmp_path):
    run = run_of_three(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"\xe9.jpg\n")
    for ids, words in (
        (None, "has no deletion that was stopped"),
        ("none.txt", "there is no such file"),
        ("empty.txt", "has no line with an image_id"),
        ("latin.txt", "expected text in UTF-8"),
    ):
        with pytest.raises(ConfigError, match=words):
            DeleteRows(run=run, ids=ids and str(tmp_path / ids))()
    with pytest.raises(ConfigError, match="expected a published label or prediction run"):
        DeleteRows(run=str(tmp_path), ids=str(tmp_path / "empty.txt"))()
    store = LocalStore(tmp_path / "packed")
    settings = {"kind": PACK_KIND, "fingerprint": {}, "config": {}, "versions": {}, "notes": {}}
    plan = read_record(LocalStore(tmp_path / "run")).plan
    open_run(store, **settings, write_plan=lambda: (plan, {}, SCHEMA))
    with pytest.raises(ConfigError, match="pack that again into a new folder"):
        DeleteRows(run=str(tmp_path / "packed"), ids=str(tmp_path / "empty.txt"))()


def test_runs_with_gaps_are_combined_and_compared_like_others(tmp_path, capsys):
    score = {name: {"hat": int(name < "c"), "hat_score": 0.9 if name < "c" else 0.1} for name in "abcd"}
    rows = {name: (name.encode(), score[name]) for name in "abcd"}
    first = write_label_run(tmp_path / "first", ["hat"], rows, root=tmp_path)
    (tmp_path / "ids.txt").write_text("b\n")
    assert DeleteRows(run=first, ids=str(tmp_path / "ids.txt"))() == 0
    left = ("d", "c", "a")  # in another order, too
    second = write_label_run(tmp_path / "second", ["hat"], {name: rows[name] for name in left}, root=tmp_path)
    capsys.readouterr()
    assert Combine(runs=(first, second), output=str(tmp_path / "both"))() == 0
    table = rows_of(LocalStore(tmp_path / "both"))
    assert [(row["row"], row["image_id"], row["hat"]) for row in table] == [(0, "a", 1), (1, "c", 0), (2, "d", 0)]
    assert [row["hat_agreement"] for row in table] == [1.0, 1.0, 1.0]
    assert Diff(first=second, second=first)() == 0
    assert "b" not in {row["image_id"] for row in rows_of(LocalStore(tmp_path / "first"))}
