"""The proof that a run is exactly-once: a crash at every store call, lost acknowledgements, zombies, random schedules.

Each test drives the real protocol (probe, lease, plan, commit, verify, publish) over a small store. The store itself
fails the test when anything visible is replaced or removed; at the end every row must be there once.
"""

import random
import threading
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import OK, commit_all
from faceattr.data.runs.lease import acquire_lease
from faceattr.data.runs.plan import plan_schema, read_shards, write_plan, write_sectioned_plan
from faceattr.data.runs.version import RunVersion, read_published
from faceattr.data.stores.open import probe_store
from faceattr.errors import RunError
from tests.fakes.stores import HookedStore, LossyStore, MemoryStore, SimulatedCrash

NUM_ROWS = 37
SHARD_SIZE = 8
NUM_SHARDS = 5
SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("hat", pa.int8()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
    ]
)


def input_tables():
    names = [f"{number:03d}.jpg" for number in range(NUM_ROWS)]
    nulls = pa.nulls(NUM_ROWS, pa.string())
    columns = [
        pa.array(names),
        pa.array(names),
        pa.array([10] * NUM_ROWS, pa.int64()),
        nulls,
        pa.nulls(NUM_ROWS, pa.int64()),
    ]
    yield pa.table(columns, schema=plan_schema())


def label_rows(rows: pa.Table, bad: frozenset[int]) -> pa.Table:
    """A stand-in for the model: the label is the row's parity, and some rows are bad."""
    numbers = rows["row"].to_pylist()
    return pa.table(
        [
            rows["row"],
            rows["image_id"],
            pa.array([None if number in bad else number % 2 for number in numbers], pa.int8()),
            pa.array(["missing" if number in bad else OK for number in numbers]),
            pa.array(["gone" if number in bad else None for number in numbers], pa.string()),
        ],
        schema=SCHEMA,
    )


def process(store, work, rng, bad):
    """Rows of the pending shards in blocks of any size and order; some blocks come twice, as retried tasks' may."""
    parts = [read_shards(store, work.plan, part, work.pending) for part in work.plan.parts]
    rows = label_rows(work.rows_to_do(store, pa.concat_tables(parts)), bad)
    order = rng.permutation(len(rows)) if rng.random() < 0.5 else np.arange(len(rows))
    rows = rows.take(pa.array(order))
    blocks, start = [], 0
    while start < len(rows):
        size = int(rng.integers(1, 14))
        blocks.append(rows.slice(start, size))
        start += size
    for index in rng.permutation(len(blocks)):
        yield blocks[index]
        if rng.random() < 0.1:
            yield blocks[index]


def plan_whole(store):
    return write_plan(store, input_tables(), shard_size=SHARD_SIZE)


def begin(store, *, plan=plan_whole, retry_failed=False):
    """A version of the run in this store, which is begun if there is none."""
    record = open_run(
        store,
        kind="label",
        fingerprint={"questions": "hat"},
        config={},
        versions={},
        notes={},
        write_plan=lambda: (plan(store), {}, pa.schema([])),
    )
    return RunVersion(store, record, SCHEMA, retry_failed=retry_failed)


def drive(store, seed=0, *, bad=frozenset(), retry_failed=False, plan=plan_whole):
    """One driver from start to end, as `pipelines/label.py` goes."""
    rng = np.random.default_rng(seed)
    probe_store(store)
    lease = acquire_lease(store, is_alive=lambda owner: False)
    version = begin(store, plan=plan, retry_failed=retry_failed)
    if version.published is None:
        work = version.work()
        commit_all(version.committer(work), process(store, work, rng, bad), on_rows=lambda rows: None)
        version.publish(version.verify())
    lease.release()
    return version


# Rows 0 to 9 are train, 10 to 29 val, the rest test: sections whose ends are inside what would be a shard without them.
SECTION_SHARDS = [
    *(f"labels/split=train/shard-{shard:08d}.parquet" for shard in (0, 1)),
    *(f"labels/split=val/shard-{shard:08d}.parquet" for shard in (2, 3, 4)),
    "labels/split=test/shard-00000005.parquet",
]


def plan_sections(store):
    (table,) = input_tables()
    ends = {"split=train": (0, 10), "split=val": (10, 30), "split=test": (30, NUM_ROWS)}
    sections = [(name, [table.slice(start, stop - start)]) for name, (start, stop) in ends.items()]
    return write_sectioned_plan(store, sections, shard_size=SHARD_SIZE)


ALL_SHARDS = [f"labels/shard-{shard:08d}.parquet" for shard in range(NUM_SHARDS)]


def check_complete(store, bad=frozenset(), expected_shards=ALL_SHARDS):
    """Every row once, in order, with the label that the row number alone decides."""
    rows = pa.concat_tables(read_published(store)).to_pylist()
    assert [row["row"] for row in rows] == list(range(NUM_ROWS))
    assert [row["image_id"] for row in rows] == [f"{number:03d}.jpg" for number in range(NUM_ROWS)]
    assert [row["hat"] for row in rows] == [None if n in bad else n % 2 for n in range(NUM_ROWS)]
    assert [row["status"] for row in rows] == ["missing" if n in bad else "ok" for n in range(NUM_ROWS)]
    shards = Counter(key for key in store.objects if key.startswith("labels/"))
    assert sorted(shards) == sorted(expected_shards)


def count_calls(run) -> int:
    calls = Counter()
    run(HookedStore(MemoryStore(), lambda when, name, key: calls.update([when])))
    return calls["before"] + calls["after"]


def crash_at(inner, place):
    """A store on which the process dies at its `place`-th moment, before or after an operation takes effect."""
    moments = Counter()

    def hook(when, name, key):
        moments["seen"] += 1
        if moments["seen"] == place:
            raise SimulatedCrash

    return HookedStore(inner, hook)


def test_undisturbed():
    store = MemoryStore()
    drive(store)
    check_complete(store)
    before = dict(store.objects)
    assert drive(store).finished
    assert {k: v for k, v in store.objects.items() if not k.startswith("_lease/")} == {
        k: v for k, v in before.items() if not k.startswith("_lease/")
    }


def test_a_crash_at_every_moment_then_a_restart():
    moments = count_calls(drive)
    assert moments > 40
    for place in range(1, moments + 1):
        store = MemoryStore()
        with pytest.raises(SimulatedCrash):
            drive(crash_at(store, place), seed=place)
        drive(store, seed=1000 + place)
        check_complete(store)


def test_a_crash_at_every_moment_of_a_run_in_sections():
    moments = count_calls(lambda store: drive(store, plan=plan_sections))
    for place in range(1, moments + 1):
        store = MemoryStore()
        with pytest.raises(SimulatedCrash):
            drive(crash_at(store, place), seed=place, plan=plan_sections)
        drive(store, seed=1000 + place, plan=plan_sections)
        check_complete(store, expected_shards=SECTION_SHARDS)


@pytest.mark.parametrize("name", ["labels/shard-00000000.parquet", "labels/split=val/shard-00000000.parquet"])
def test_a_shards_name_in_another_section_counts_for_nothing(name):
    store = MemoryStore()
    other = MemoryStore()
    drive(other, plan=plan_sections)
    store.objects[name] = other.objects["labels/split=train/shard-00000000.parquet"]
    drive(store, plan=plan_sections)
    check_complete(store, expected_shards=[*SECTION_SHARDS, name])


def test_two_crashes_at_every_pair_of_early_and_late_moments():
    moments = count_calls(drive)
    for first in range(1, moments + 1, 7):
        for second in range(1, moments + 1, 5):
            store = MemoryStore()
            for place in (first, second):
                try:
                    drive(crash_at(store, place), seed=place)
                except SimulatedCrash:
                    continue
            drive(store)
            check_complete(store)


def test_every_acknowledgement_lost():
    store = MemoryStore()
    drive(LossyStore(store, lambda: True))  # also the lease's own: a token in it tells whose it is
    check_complete(store)


@pytest.mark.parametrize("key", ["_lease/00000001.json", "run.json", "labels/shard-00000002.parquet", "_manifest.json"])
def test_a_lost_acknowledgement_of_each_kind_of_write_is_success(key):
    store = MemoryStore()
    pending = [key]

    class LosesOne(LossyStore):
        def put_if_absent(self, name, data):
            created = self._inner.put_if_absent(name, data)
            if created and name in pending:
                pending.remove(name)
                return False
            return created

    drive(LosesOne(store, lambda: False))
    assert not pending
    check_complete(store)


@pytest.mark.parametrize("block", [0, *(pytest.param(each, marks=pytest.mark.long) for each in range(1, 8))])
def test_thousands_of_random_schedules(block):
    """Crashes at random moments, lost acknowledgements, rows in any order and twice: 2,000 seeded histories in all."""
    for seed in range(block * 250, (block + 1) * 250):
        rng = random.Random(seed)
        store = MemoryStore()
        while True:
            lossy = LossyStore(store, lambda: rng.random() < 0.2)  # noqa: B023
            attempt = crash_at(lossy, rng.randint(1, 120))
            try:
                drive(attempt, seed=rng.getrandbits(32))
            except (SimulatedCrash, RunError):
                continue
            break
        check_complete(store)


def test_a_zombie_driver_and_its_successor_in_every_interleaving():
    """Two drivers on one folder, each thinking the other dead, their store calls interleaved by a seeded schedule."""
    for seed in range(150):
        store = MemoryStore()
        turns = _Turns(2, seed)
        failures: list[BaseException] = []

        def work(name, turns=turns, store=store, seed=seed, failures=failures):
            turned = HookedStore(store, lambda when, op, key: turns.wait(name) if when == "before" else None)
            try:
                drive(turned, seed=seed + name)
            except RunError:
                pass  # it learnt that the other one lives, and stopped
            except BaseException as error:  # noqa: BLE001 - shown by the assertion below
                failures.append(error)
            finally:
                turns.leave(name)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not failures, failures
        drive(store, seed=seed)
        check_complete(store)


class _Turns:
    """Lets one of several threads go on at a time, in an order drawn from a seed."""

    def __init__(self, count, seed):
        self._rng = random.Random(seed)
        self._members = set(range(count))
        self._changed = threading.Condition()
        self._turn = self._rng.choice(sorted(self._members))

    def wait(self, name):
        with self._changed:
            assert self._changed.wait_for(lambda: self._turn == name, timeout=30)
            self._turn = self._rng.choice(sorted(self._members))
            self._changed.notify_all()

    def leave(self, name):
        with self._changed:
            self._members.discard(name)
            if self._members:
                self._turn = self._rng.choice(sorted(self._members))
            self._changed.notify_all()


def test_a_retry_does_only_the_bad_rows_and_keeps_the_old_version():
    bad = frozenset({3, 8, 20})
    store = MemoryStore()
    drive(store, bad=bad)
    check_complete(store, bad=bad)
    first = dict(store.objects)
    asked = []

    real_process = process

    def remember(store, work, rng, bad):
        for table in real_process(store, work, rng, bad):
            asked.extend(table["row"].to_pylist())
            yield table

    version = _drive_retry(store, remember, bad=frozenset({8}))
    assert version.version == 2
    assert set(asked) == {3, 8, 20}
    check_complete(store, bad=frozenset({8}))
    assert {key: store.objects[key] for key in first if not key.startswith("_lease/")} == {
        key: value for key, value in first.items() if not key.startswith("_lease/")
    }
    rewritten = sorted(key for key in store.objects if key.startswith("labels-v2/"))
    assert rewritten == [f"labels-v2/shard-{shard:08d}.parquet" for shard in (0, 1, 2)]


def test_a_crash_at_every_moment_of_a_retry():
    bad = frozenset({3, 8, 20})

    def published():
        store = MemoryStore()
        drive(store, bad=bad)
        return store

    calls = Counter()
    drive(HookedStore(published(), lambda when, name, key: calls.update(["moment"])), retry_failed=True)
    for place in range(1, calls["moment"] + 1):
        store = published()
        with pytest.raises(SimulatedCrash):
            drive(crash_at(store, place), seed=place, retry_failed=True)
        drive(store, seed=place, retry_failed=True)
        check_complete(store)


def _drive_retry(store, process_rows, *, bad):
    record_version = begin(store, retry_failed=True)
    work = record_version.work()
    rows = process_rows(store, work, np.random.default_rng(0), bad)
    commit_all(record_version.committer(work), rows, on_rows=lambda rows: None)
    record_version.publish(record_version.verify())
    return record_version


def test_rows_that_never_come_are_an_error_and_nothing_is_published():
    store = MemoryStore()
    version = begin(store)
    work = version.work()
    rows = label_rows(read_shards(store, work.plan, work.plan.parts[0], work.pending), frozenset())
    with pytest.raises(RunError, match="1 rows of 1 shards never arrived"):
        commit_all(
            version.committer(work), [rows.filter(pa.array(np.arange(NUM_ROWS) != 11))], on_rows=lambda rows: None
        )
    with pytest.raises(RunError, match="1 of 5 shards are missing, the first is 1"):
        version.verify()
    assert "_manifest.json" not in store.objects


def test_a_foreign_file_under_a_shards_name_is_not_taken_for_ours():
    store = MemoryStore()
    other = MemoryStore()
    drive(other)
    version = begin(store)
    work = version.work()
    committer = version.committer(work)
    rows = label_rows(read_shards(store, work.plan, work.plan.parts[0], work.pending), frozenset())
    store.objects["labels/shard-00000001.parquet"] = other.objects["labels/shard-00000001.parquet"]
    with pytest.raises(RunError, match="belongs to something else"):
        committer.add(rows)
    for shard in (2, 3, 4):
        committer.add(rows.slice(shard * SHARD_SIZE, SHARD_SIZE))
    with pytest.raises(RunError, match=r"shard-00000001\.parquet belongs to another run"):
        version.verify()
