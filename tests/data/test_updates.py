"""Versions with other rows than the plan of run.json: images that are new or changed, images that are gone."""

import hashlib
import itertools
import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.config import StorageConfig
from faceattr.data.inputs.image_input import ImageInput
from faceattr.data.inputs.open import open_input
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.changes import listing
from faceattr.data.runs.changes.rewriting import rewrite_shards
from faceattr.data.runs.changes.update import find_updates
from faceattr.data.runs.commit import OK, commit_all
from faceattr.data.runs.plan import Plan, append_to_plan, plan_schema, read_shards, write_plan
from faceattr.data.runs.reject_counts import count_rejected
from faceattr.data.runs.status import read_run_status
from faceattr.data.runs.verification import verify_published
from faceattr.data.runs.version import RunVersion, read_manifest, read_published
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError
from tests.fakes.stores import HookedStore, MemoryStore, SimulatedCrash

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)
BEFORE = {f"{number:02}.jpg": b"day 1" for number in range(20)}
# Three new images, two that changed, four that are gone.
AFTER = {
    **{name: data for name, data in BEFORE.items() if name not in ("02.jpg", "03.jpg", "10.jpg", "19.jpg")},
    "05.jpg": b"day 2",
    "11.jpg": b"day 2",
    **{f"new-{number}.jpg": b"day 2" for number in range(3)},
}


def images_of(contents: Mapping[str, bytes], carried: Mapping[str, list[str]] | None = None) -> ImageInput:
    """A listing of images, all of one size: only the etag tells that one has changed."""
    names = list(contents)
    extra = {name: pa.array(values, pa.string()) for name, values in (carried or {}).items()}
    schema = pa.schema([pa.field(name, pa.string()) for name in extra])
    columns = {
        "image_id": names,
        "uri": [f"in/{name}" for name in names],
        "num_bytes": [len(data) for data in contents.values()],
        "etag": [hashlib.md5(data).hexdigest() for data in contents.values()],
        "source_row": pa.nulls(len(names), pa.int64()),
        **extra,
    }
    table = pa.table(columns, schema=plan_schema(list(schema)))
    return ImageInput(kind="prefix", root="in", carried=schema, tables=[table])


def labelled(rows: pa.Table, contents: Mapping[str, bytes], bad: frozenset[str] = frozenset()) -> pa.Table:
    """A stand-in for the model, which says what it has seen."""
    names = rows["image_id"].to_pylist()
    seen = [None if name in bad else hashlib.sha256(contents[name]).hexdigest() for name in names]
    status = ["missing" if name in bad else OK for name in names]
    errors = ["gone" if name in bad else None for name in names]
    return pa.table([rows["row"], rows["image_id"], pa.array(seen), pa.array(status), pa.array(errors)], schema=SCHEMA)


def process(store, version, contents, bad=frozenset()):
    rewrite_shards(version)
    work = version.work()
    parts = [work.plan.parts[place] for place in work.plan.parts_with(work.pending)]
    rows = [read_shards(store, work.plan, part, work.pending) for part in parts]
    tables = [labelled(work.rows_to_do(store, each), contents, bad) for each in rows]
    commit_all(version.committer(work), tables, on_rows=lambda rows: None)
    version.publish(version.verify())


def begin(store, images, shard_size=4):
    """The record of a run over images; begun, or as it was begun."""
    source = {"kind": images.kind, "root": images.root, "bytes_column": None}
    return open_run(
        store,
        kind="label",
        fingerprint={},
        config={},
        versions={},
        notes={},
        write_plan=lambda: (write_plan(store, images.tables, shard_size=shard_size), source, images.carried),
    )


def label(store, contents, *, bad=frozenset(), shard_size=4, carried=None):
    """Version 1, as `pipelines/label.py` makes it."""
    record = begin(store, images_of(contents, carried), shard_size)
    version = RunVersion(store, record, SCHEMA)
    if not version.finished:
        process(store, version, contents, bad)
    return record


def update(store, contents, carried=None):
    """What `--update` does; returns the changes that it made."""
    record = label(store, contents)
    done = []
    for change in find_updates(store, record, lambda: images_of(contents, carried)):
        version = RunVersion(store, record, SCHEMA, change=change)
        process(store, version, contents)
        done.append(change)
    return done


def rows_of(store):
    return pa.concat_tables(read_published(store)).to_pylist()


def check_is(store, contents):
    """Each image once, and labelled as it is now."""
    rows = rows_of(store)
    seen = {row["image_id"]: row["sha256"] for row in rows}
    assert seen == {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    assert len(rows) == len(contents)
    assert len({row["row"] for row in rows}) == len(rows)


def test_a_table_follows_its_images_and_keeps_the_files_that_stay():
    store = MemoryStore()
    label(store, BEFORE)
    first = read_manifest(store)
    (change,) = update(store, AFTER)
    check_is(store, AFTER)
    manifest = read_manifest(store)
    assert (manifest.version, manifest.num_rows, manifest.status_counts) == (2, 19, {"ok": 19})
    assert {key: manifest.change[key] for key in ("new", "changed", "gone", "unchanged", "withheld")} == {
        "new": 3,
        "changed": 2,
        "gone": 4,
        "unchanged": 14,
        "withheld": 0,
    }
    # Shards of four rows: of the five, shard 3 (rows 12 to 15) alone lost no row.
    assert manifest.files[3] == first.files[3]
    assert [file.shard for file in manifest.files if file.key.startswith("labels/")] == [3]
    assert len(manifest.files) == 6
    assert [row["row"] for row in rows_of(store)] == [
        0,
        1,
        4,
        6,
        7,
        8,
        9,
        12,
        13,
        14,
        15,
        16,
        17,
        18,
        20,
        21,
        22,
        23,
        24,
    ]
    (key,) = change.hashes
    left_out = pq.read_table(pa.BufferReader(store.get(key))).to_pylist()
    assert sorted((row["image_id"], row["row"], row["reason"]) for row in left_out) == [
        ("02.jpg", 2, "gone"),
        ("03.jpg", 3, "gone"),
        ("05.jpg", 5, "changed"),
        ("10.jpg", 10, "gone"),
        ("11.jpg", 11, "changed"),
        ("19.jpg", 19, "gone"),
    ]
    assert update(store, AFTER) == []


def test_a_shard_whose_rows_are_all_gone_has_no_file():
    store = MemoryStore()
    label(store, BEFORE)
    kept = dict(list(BEFORE.items())[4:])
    update(store, kept)
    check_is(store, kept)
    assert [file.shard for file in read_manifest(store).files] == [1, 2, 3, 4]
    # It is new again tomorrow, with a row of its own.
    update(store, BEFORE)
    check_is(store, BEFORE)
    assert sorted(row["row"] for row in rows_of(store))[-4:] == [20, 21, 22, 23]


def test_many_days():
    store = MemoryStore()
    rng = np.random.default_rng(0)
    contents = dict(BEFORE)
    label(store, contents)
    for day in range(6):
        for name in rng.choice(sorted(contents), 3, replace=False):
            del contents[name]
        for name in rng.choice(sorted(contents), 4, replace=False):
            contents[name] = f"day {day}".encode()
        contents |= {f"{day}-{number}.jpg": b"x" for number in range(rng.integers(1, 9))}
        update(store, contents)
        check_is(store, contents)
    assert read_manifest(store).version == 7


def test_a_crash_at_every_call_leaves_the_old_version_or_the_new_one():
    template = MemoryStore()
    label(template, BEFORE)
    for calls in itertools.count():
        inner = MemoryStore()
        inner.objects = dict(template.objects)
        left, when = [calls], ("before", "after")[calls % 2]  # whether the call itself still happened

        def hook(moment, name, key, left=left, when=when):
            if moment == when:
                left[0] -= 1
                if left[0] < 0:
                    raise SimulatedCrash(f"{name} {key}")

        try:
            update(HookedStore(inner, hook), AFTER)
        except SimulatedCrash:
            check_is(inner, AFTER if read_manifest(inner).version == 2 else BEFORE)
        else:
            assert calls > 20
            return
        update(inner, AFTER)
        check_is(inner, AFTER)
        assert read_manifest(inner).version == 2


def test_an_update_that_was_begun_is_finished_before_a_new_listing():
    store = MemoryStore()
    record = label(store, BEFORE)
    begun = next(find_updates(store, record, lambda: images_of(AFTER)))
    tomorrow = {**AFTER, "later.jpg": b"day 3"}
    first, second = update(store, tomorrow)
    assert first == begun
    assert (second.version, second.facts["new"], second.facts["gone"]) == (3, 1, 0)
    check_is(store, tomorrow)


def test_a_retry_and_an_update_of_a_retry_keep_the_rows_of_the_update():
    store = MemoryStore()
    record = label(store, BEFORE, bad=frozenset(["00.jpg", "02.jpg"]))
    update(store, AFTER)
    assert {row["image_id"] for row in rows_of(store) if row["status"] != OK} == {"00.jpg"}
    version = RunVersion(store, record, SCHEMA, retry_failed=True)
    assert version.num_rows == 19
    process(store, version, AFTER)
    check_is(store, AFTER)
    assert read_manifest(store).version == 3
    update(store, {**AFTER, "later.jpg": b"day 3"})
    check_is(store, {**AFTER, "later.jpg": b"day 3"})


def test_parts_of_the_comparison_do_not_change_it(monkeypatch):
    monkeypatch.setattr(listing, "COMPARED_ROWS", 3)
    store = MemoryStore()
    label(store, BEFORE)
    update(store, AFTER)
    check_is(store, AFTER)


def test_carried_columns_count_as_part_of_an_image():
    store = MemoryStore()
    record = label(store, BEFORE, carried={"person": ["a"] * 20})
    (change,) = find_updates(store, record, lambda: images_of(BEFORE, {"person": ["a"] * 19 + ["b"]}))
    assert (change.facts["changed"], change.facts["unchanged"]) == (1, 19)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (images_of({"a.jpg": b"1"}), "not one of its images is listed any more"),
        (images_of(BEFORE, {"person": ["a"] * 20}), "carries the columns []; the manifest has ['person'] now"),
        (ImageInput(kind="prefix", root="out", carried=pa.schema([]), tables=[]), "found a prefix below out now"),
        (ImageInput(kind="packed", root="in", carried=pa.schema([]), tables=[]), "a changed image cannot be seen"),
    ],
)
def test_a_listing_that_cannot_be_compared_is_refused(images, words):
    store = MemoryStore()
    record = label(store, BEFORE)
    before = dict(store.objects)
    with pytest.raises(ConfigError, match=words.replace("[", r"\[").replace("]", r"\]")):
        list(find_updates(store, record, lambda: images))
    assert store.objects == before


def test_an_image_that_is_listed_twice_is_refused():
    store = MemoryStore()
    record = label(store, BEFORE)
    twice = images_of(BEFORE)
    (table,) = twice.tables
    twice = ImageInput(kind="prefix", root="in", carried=twice.carried, tables=[table, table.slice(3, 1)])
    with pytest.raises(ConfigError, match=r"lists images twice: '03\.jpg'"):
        list(find_updates(store, record, lambda: twice))


def test_a_real_folder_is_verified_and_its_status_counts_the_rows_of_the_table(tmp_path):
    (tmp_path / "in").mkdir()
    for name, data in BEFORE.items():
        (tmp_path / "in" / name).write_bytes(data)
    store = LocalStore(tmp_path / "run")
    record = begin(store, open_input(str(tmp_path / "in")))
    process(store, RunVersion(store, record, SCHEMA), BEFORE)
    assert list(find_updates(store, record, lambda: open_input(str(tmp_path / "in")))) == []
    (tmp_path / "in" / "02.jpg").unlink()
    (tmp_path / "in" / "05.jpg").write_bytes(b"another size")
    (tmp_path / "in" / "new.jpg").write_bytes(b"new")
    after = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    (change,) = find_updates(store, record, lambda: open_input(str(tmp_path / "in")))
    process(store, RunVersion(store, record, SCHEMA, change=change), after)
    check_is(store, after)
    found = verify_published(store, StorageConfig())
    assert found.problems == ()
    # Six shards, two parts of the plan, the rows that are left out, and their list for people.
    assert found.num_files == 6 + 2 + 1 + 1
    status = read_run_status(store)
    assert (status.state, status.num_rows, status.num_committed) == ("published", 20, 20)
    (tmp_path / "run" / change.extent.removed.key).write_bytes(b"")
    assert "removed-" in verify_published(store, StorageConfig()).problems[0]


def test_rejects_are_counted_in_kept_rewritten_and_new_shards(tmp_path):
    store = LocalStore(tmp_path)
    record = label(store, BEFORE, bad=frozenset(["01.jpg", "05.jpg", "09.jpg", "13.jpg"]))
    # Shard 0 loses all of its rows, shard 1 a bad one of them, shard 2 a good one; shard 3 stays as it is.
    gone = ("00.jpg", "01.jpg", "02.jpg", "03.jpg", "05.jpg", "08.jpg")
    after = {name: data for name, data in BEFORE.items() if name not in gone} | {"new.jpg": b"day 2"}
    (change,) = find_updates(store, record, lambda: images_of(after))
    version = RunVersion(store, record, SCHEMA, change=change)
    rewrite_shards(version)
    assert (version.own_shards, version.num_rows) == ([1, 2, 5], 15)
    work = version.work()
    assert work.pending.tolist() == [5]
    assert count_rejected(version, work, StorageConfig()) == 2
    process(store, version, after, bad=frozenset(["new.jpg"]))
    later = {**after, "later.jpg": b"day 3"}
    (change,) = find_updates(store, record, lambda: images_of(later))
    version = RunVersion(store, record, SCHEMA, change=change)
    assert count_rejected(version, version.work(), StorageConfig()) == 3


def test_appended_rows_have_shards_of_their_own_size():
    store = MemoryStore()
    plan = label(store, BEFORE).plan  # 20 rows in shards of 4
    more = images_of({f"{number}.png": b"" for number in range(300)})
    longer = append_to_plan(store, plan, more.tables)
    assert (longer.num_rows, longer.num_shards) == (320, 5 + 2)
    assert [longer.shard_range(shard) for shard in (0, 4, 5, 6)] == [
        range(4),
        range(16, 20),
        range(20, 276),
        range(276, 320),
    ]
    assert longer.shards_of(np.array([3, 4, 19, 20, 275, 276, 319])).tolist() == [0, 1, 4, 5, 5, 6, 6]
    assert longer.parts_with(np.array([5])) == [1]
    assert Plan.from_json(json.loads(json.dumps(longer.to_json()))) == longer
    assert append_to_plan(store, plan, []) == plan
