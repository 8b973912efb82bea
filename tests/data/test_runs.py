"""The run folder: begun once, resumed under the same settings, read only when it is published."""

import json

import pyarrow as pa
import pytest

from faceattr.data.formats.parquet import read_provenance, with_provenance
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import OK, commit_all, commit_shard
from faceattr.data.runs.lease import acquire_lease
from faceattr.data.runs.plan import plan_schema, write_plan
from faceattr.data.runs.version import Manifest, RunVersion, read_manifest, read_published, read_record
from faceattr.data.stores.open import open_store, probe_store
from faceattr.errors import ConfigError, RunError, StorageError
from tests.fakes.stores import MemoryStore

SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False), ("hat", pa.int8()), ("status", pa.string())])
CARRIED = pa.schema([("given_hat", pa.string()), ("age", pa.float64())])
FINGERPRINT = {"questions": {"hat": {"threshold": 0.5, "texts": ["hat?"]}}, "model": "tiny"}


def write_small_plan(store):
    names = pa.array(["a.jpg", "b.jpg", "c.jpg"])
    nulls = [pa.nulls(3, pa.int64()), pa.nulls(3, pa.string()), pa.nulls(3, pa.int64())]
    table = pa.table([names, names, *nulls], schema=plan_schema())
    return write_plan(store, [table], shard_size=2), {"root": "in"}, CARRIED


def begin(store, write=write_small_plan, **changes):
    values = {
        "kind": "label",
        "fingerprint": FINGERPRINT,
        "config": {"limit": 3},
        "versions": {"ray": "2"},
        "notes": {},
    }
    return open_run(store, **(values | changes), write_plan=lambda: write(store))


def rows(numbers, bad=()):
    statuses = ["missing" if number in bad else OK for number in numbers]
    labels = [None if number in bad else number % 2 for number in numbers]
    return pa.table([pa.array(numbers, pa.int64()), pa.array(labels, pa.int8()), pa.array(statuses)], schema=SCHEMA)


def finish(store, numbers=(0, 1, 2), *, bad=(), retry_failed=False):
    version = RunVersion(store, read_record(store), SCHEMA, retry_failed=retry_failed)
    commit_all(version.committer(version.work()), [rows(list(numbers), bad)], on_rows=lambda table: None)
    version.publish(version.verify())
    return version


def test_a_run_is_begun_once_and_found_again():
    store = MemoryStore()
    record = begin(store)

    def no_second_plan(store):
        raise AssertionError("planned again")

    again = begin(store, no_second_plan, config={"limit": 99}, versions={"ray": "3"}, notes={"x": 1})
    assert again == record == read_record(store)
    assert (record.plan.num_rows, record.plan.num_shards) == (3, 2)
    assert record.source == {"root": "in"}
    assert record.carried_schema == CARRIED
    assert (again.config, again.versions) == ({"limit": 3}, {"ray": "2"})


def test_parts_of_an_attempt_that_died_are_cleared_away():
    store = MemoryStore()
    write_small_plan(store)
    record = begin(store)
    assert [entry.key for entry in store.list("plan/")] == [record.plan.parts[0].key]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"fingerprint": FINGERPRINT | {"model": "blip"}}, "model: there 'tiny', here 'blip'"),
        ({"fingerprint": {"questions": FINGERPRINT["questions"]}}, "model: there 'tiny', here None"),
        ({"fingerprint": FINGERPRINT | {"extra": 1}}, "extra: there None, here 1"),
        (
            {"fingerprint": {"model": "tiny", "questions": {"hat": {"threshold": 0.4, "texts": ["hat?"]}}}},
            "questions.hat.threshold: there 0.5, here 0.4",
        ),
        (
            {"fingerprint": {"model": "tiny", "questions": {"hat": {"threshold": 0.5, "texts": ["hat?", "cap?"]}}}},
            "questions.hat.texts: there ['hat?'], here ['hat?', 'cap?']",
        ),
    ],
)
def test_other_settings_are_refused_with_the_difference(changes, difference):
    store = MemoryStore()
    begin(store)
    with pytest.raises(ConfigError, match="holds a run with other settings") as error:
        begin(store, **changes)
    assert str(error.value).splitlines()[1:] == [f"  {difference}"]


def test_a_run_of_another_kind_is_named_without_its_settings():
    store = MemoryStore()
    begin(store)
    with pytest.raises(ConfigError, match=r"holds a label run, not a predict run: use another --output$"):
        begin(store, kind="predict", fingerprint={"model": "blip"})


def test_tuples_and_lists_are_the_same_setting():
    store = MemoryStore()
    begin(store, fingerprint={"size": (384, 384)})
    assert begin(store, fingerprint={"size": (384, 384)}) == begin(store, fingerprint={"size": [384, 384]})


def test_a_long_difference_is_cut_short():
    store = MemoryStore()
    begin(store, fingerprint={"text": "x" * 1000})
    with pytest.raises(ConfigError, match=r"x\.\.\., here None$"):
        begin(store, fingerprint={})


def test_unfinished_then_finished():
    store = MemoryStore()
    begin(store)
    version = RunVersion(store, read_record(store), SCHEMA)
    assert (version.finished, version.version, version.folder) == (False, 1, "labels")
    assert version.work().pending.tolist() == [0, 1]
    assert read_manifest(store) is None

    assert version.committer(version.work()).add(rows([2])) == [1]
    half = RunVersion(store, read_record(store), SCHEMA)
    assert half.work().pending.tolist() == [0]
    with pytest.raises(RunError, match="1 of 2 shards are missing, the first is 0"):
        half.verify()

    done = finish(store, [0, 1], bad=[1])
    assert done.finished
    assert RunVersion(store, read_record(store), SCHEMA).finished
    manifest = read_manifest(store)
    assert (manifest.version, manifest.num_rows, manifest.status_counts) == (1, 3, {"missing": 1, "ok": 2})
    assert [(file.key, file.num_rows, file.num_bad) for file in manifest.files] == [
        ("labels/shard-00000000.parquet", 2, 1),
        ("labels/shard-00000001.parquet", 1, 0),
    ]
    assert [file.num_bytes for file in manifest.files] == [len(store.get(file.key)) for file in manifest.files]


def test_only_a_published_run_can_be_read():
    store = MemoryStore()
    begin(store)
    version = RunVersion(store, read_record(store), SCHEMA)
    version.committer(version.work()).add(rows([0, 1, 2]))
    with pytest.raises(ConfigError, match=r"holds no published run \(no _manifest.json\); finish the run first"):
        list(read_published(store))
    version.publish(version.verify())
    tables = list(read_published(store))
    assert pa.concat_tables(tables).to_pylist() == rows([0, 1, 2]).to_pylist()
    assert [table.column_names for table in read_published(store, ["hat"])] == [["hat"], ["hat"]]
    assert read_provenance(tables[0].schema) == {
        "schema_version": 1,
        "run_id": version.record.run_id,
        "version": 1,
        "fingerprint": FINGERPRINT,
    }


def test_readers_see_the_latest_version():
    store = MemoryStore()
    begin(store)
    for bad in ([0, 2], [2], []):
        version = finish(store, bad=bad, retry_failed=True)
    assert version.version == read_manifest(store).version == 3
    assert [row["status"] for table in read_published(store) for row in table.to_pylist()] == [OK] * 3
    assert RunVersion(store, read_record(store), SCHEMA, retry_failed=True).finished  # nothing bad is left


def test_a_version_above_nine_is_later():
    store = MemoryStore()
    for version in (1, 2, 10, 9):
        manifest = Manifest(run_id="r", version=version, num_rows=0, status_counts={}, files=())
        store.put("_manifest.json" if version == 1 else f"_manifest-v{version}.json", manifest.encode())
    assert read_manifest(store).version == 10


def test_files_that_others_put_into_the_folder_are_no_part_of_it():
    store = MemoryStore()
    begin(store)
    finish(store)
    for key in ("_manifest.json.bak", "_manifest-old.json", "_lease/notes.txt", "labels/shard-x.crc", "plan/.DS_Store"):
        store.put(key, b"not ours")
    begin(store)
    assert read_manifest(store).num_rows == sum(map(len, read_published(store)))
    acquire_lease(store)


def test_another_manifest_is_not_overwritten():
    store = MemoryStore()
    begin(store)
    version = RunVersion(store, read_record(store), SCHEMA)
    version.committer(version.work()).add(rows([0, 1, 2]))
    manifest = version.verify()
    version.publish(manifest)
    version.publish(manifest)  # the same once more, as after a lost acknowledgement
    with pytest.raises(RunError, match=r"_manifest\.json exists and says something else"):
        version.publish(Manifest(run_id="r", version=1, num_rows=9, status_counts={}, files=()))


def test_a_future_format_is_refused():
    store = MemoryStore()
    begin(store)
    value = json.loads(store.get("run.json"))
    store.objects["run.json"] = json.dumps(value | {"schema_version": 2}).encode()
    with pytest.raises(ConfigError, match=r"run.json has schema version 2; this code reads 1"):
        read_record(store)


def test_a_shard_that_exists_is_success_only_if_it_is_ours():
    store = MemoryStore()
    ours, other = (rows([0, 1]).cast(with_provenance(SCHEMA, {"run_id": name})) for name in ("ours", "other"))
    commit_shard(store, "labels/shard-00000000.parquet", ours)
    commit_shard(store, "labels/shard-00000000.parquet", ours)
    for table in (other, ours.slice(0, 1)):
        with pytest.raises(RunError, match="exists and belongs to something else"):
            commit_shard(store, "labels/shard-00000000.parquet", table)


class CarelessStore(MemoryStore):
    """Ignores If-None-Match, as some S3 servers do, and says that all went well."""

    honest = False

    def put_if_absent(self, key, data):
        existed = key in self.objects
        self.objects[key] = data
        return not (self.honest and existed)


class DownStore(MemoryStore):
    def put_if_absent(self, key, data):
        raise StorageError("could not write")

    def delete(self, key):
        raise StorageError("could not delete")


@pytest.mark.parametrize("honest", [False, True])
def test_a_store_that_overwrites_is_refused(honest):
    store = CarelessStore()
    store.honest = honest  # says that the key existed, having replaced it
    with pytest.raises(ConfigError, match="overwrites objects in spite of If-None-Match"):
        probe_store(store)
    assert store.objects == {}


def test_the_probe_says_what_failed_first():
    with pytest.raises(StorageError, match="could not write"):
        probe_store(DownStore())


@pytest.mark.parametrize("kind", ["memory", "local", "s3"])
def test_a_probed_store_is_left_as_it_was(kind, request, tmp_path):
    uri = {"local": str(tmp_path), "s3": kind == "s3" and request.getfixturevalue("s3_uri")}.get(kind)
    store = open_store(uri) if uri else MemoryStore()
    probe_store(store)
    assert list(store.list()) == []


def test_a_store_that_can_only_be_read_is_refused():
    with pytest.raises(ConfigError, match="local folders and s3:// only"):
        probe_store(open_store("mock:///x"))


class _Puts(MemoryStore):
    """Records what is written, in order."""

    def __init__(self):
        super().__init__()
        self.keys = []

    def put(self, key, data):
        self.keys.append(key)
        super().put(key, data)

    def put_if_absent(self, key, data):
        self.keys.append(key)
        return super().put_if_absent(key, data)


def test_an_empty_success_file_is_the_last_that_a_version_writes():
    store = _Puts()
    begin(store)
    finish(store, bad=[1])
    assert store.keys[-2:] == ["_manifest.json", "_SUCCESS"]
    assert store.get("_SUCCESS") == b""
    before = read_manifest(store)

    version = RunVersion(store, read_record(store), SCHEMA, retry_failed=True)
    assert store.get("_SUCCESS") == b""  # version 1 is there while version 2 is made
    commit_all(version.committer(version.work()), [rows([1])], on_rows=lambda table: None)
    version.publish(version.verify())
    assert store.keys[-2:] == ["_manifest-v2.json", "_SUCCESS"]
    assert (before.version, read_manifest(store).version) == (1, 2)


def test_readers_do_not_look_at_the_success_file():
    store = MemoryStore()
    begin(store)
    store.put("_SUCCESS", b"")  # without a manifest nothing is published
    assert read_manifest(store) is None
    with pytest.raises(ConfigError, match="holds no published run"):
        next(read_published(store))
    finish(store)
    assert sum(len(table) for table in read_published(store)) == 3
