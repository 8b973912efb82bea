"""Published files that are not what was written: refused in one line that names the file, whichever bit it is."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.cli import main as faceattr
from faceattr.config import StorageConfig
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.version import read_published, read_record
from faceattr.data.sources.registry import open_source
from faceattr.data.stores.open import open_store
from faceattr.errors import FaceattrError, RunError
from faceattr.jobs.train.survey import SURVEY_KEY, load_surveys
from faceattr.training.history import read_history
from tests.label_runs import write_label_run
from tests.packed_runs import write_packed_run

SHARD = "labels/shard-00000000.parquet"


@pytest.fixture
def labels(tmp_path):
    rows = {f"{n}.jpg": (b"%d" % n, {"hat": n % 2, "hat_score": n / 40}) for n in range(40)}
    return open_store(write_label_run(tmp_path / "labels", ["hat"], rows, root=tmp_path))


@pytest.fixture
def packed(tmp_path):
    rng = np.random.default_rng(0)
    rows = [{"image": rng.bytes(900), "hat": n % 2, "width_px": 9, "height_px": n + 1} for n in range(20)]
    attributes = AttributeSet(attributes=(Attribute(name="hat"),))
    return write_packed_run(tmp_path / "packed", attributes, {"train": rows, "val": rows[:2]})


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_of_a_label_shard_is_read_as_another_value(labels):
    good = labels.get(SHARD)
    for bit in range(0, 8 * len(good), 101):
        labels.put(SHARD, flip(good, bit))
        with pytest.raises(RunError, match=f"{SHARD} is damaged: its sha256 is"):
            list(read_published(labels))
    labels.put(SHARD, good)
    assert sum(map(len, read_published(labels))) == 40


@pytest.mark.parametrize("hashed", [True, False])
def test_no_flipped_bit_of_a_packed_shard_is_read_as_another_value(packed, hashed):
    store = open_store(packed)
    if not hashed:  # as versions wrote it that noted no hash of footers
        manifest = json.loads(store.get("_manifest.json"))
        for file in manifest["files"]:
            del file["footer_sha256"]
        store.put("_manifest.json", json.dumps(manifest).encode())
    data = open_packed([packed], needs=())
    (file,) = data.splits["train"]
    key = file.uri.removeprefix(f"{store.uri}/")
    good, wanted = store.get(key), pa.concat_tables(data.iter_rows(file))
    footer_start = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    num_refused = 0
    # Without its hash a footer may end the process that parses it.
    for bit in range(0, 8 * (len(good) if hashed else footer_start), 131):
        store.put(key, flip(good, bit))
        try:
            found = pa.concat_tables(data.iter_rows(file))
        except RunError as error:
            assert file.uri in str(error)  # noqa: PT017 - most are refused, and the others are whole
            num_refused += 1
        else:
            assert found.equals(wanted), bit
    assert num_refused > 100


@pytest.mark.parametrize("size", [0, 3, 100, -9, -1])
def test_a_cut_file_is_refused_by_its_name(labels, packed, size):
    for uri in (labels.uri, packed):
        store = open_store(uri)
        key = json.loads(store.get("_manifest.json"))["files"][0]["key"]
        store.put(key, store.get(key)[:size])
        with pytest.raises(RunError) as caught:
            list(read_published(store))
        assert str(caught.value).startswith(f"{uri}/{key} is damaged: it has ")
    data = open_packed([packed], needs=())
    with pytest.raises(RunError, match="is damaged"):
        list(data.iter_split("train"))


def test_a_file_that_is_gone_and_one_of_another_run(labels, tmp_path):
    other = write_label_run(tmp_path / "other", ["hat"], {"x.jpg": (b"x", {"hat": 1, "hat_score": 1.0})}, root="r")
    good = labels.get(SHARD)
    labels.put(SHARD, open_store(other).get(SHARD))
    with pytest.raises(RunError, match="is damaged: it has"):
        list(read_published(labels))
    labels.delete(SHARD)
    with pytest.raises(RunError, match="is gone, though the run's manifest lists it"):
        list(read_published(labels))
    labels.put(SHARD, good)


def test_who_wants_to_read_what_is_left_can(labels):
    good = labels.get(SHARD)
    data = json.loads(labels.get("_manifest.json"))
    data["files"][0]["sha256"] = "0" * 64
    labels.put("_manifest.json", json.dumps(data).encode())
    with pytest.raises(RunError, match="is damaged"):
        open_source("labels", labels.uri).read_all()
    table, _ = open_source("labels", labels.uri, storage=StorageConfig(verify=False)).read_all()
    assert len(table) == 40
    assert labels.get(SHARD) == good


def test_a_plan_that_was_changed_is_refused(labels):
    plan = next(entry.key for entry in labels.list("plan/"))
    labels.put(plan, flip(labels.get(plan), 999))
    assert faceattr(["status", labels.uri, "--verify"]) == 1


DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "a list": lambda data: b"[1, 2]",
    "a number": lambda data: b"7",
    "no UTF-8": lambda data: data.replace(b"run_id", b"run\xff\xfe_id"),
    "deep": lambda data: b"[" * 100_000,
    "a list where an object belongs": lambda data: (
        _with(data, "plan", [1]) if b'"plan"' in data else _with(data, "files", {})
    ),
    "text where a number belongs": lambda data: (
        _with(data, "num_rows", "many") if b'"files"' in data else _with(data, "kind", 3)
    ),
    "a key less": lambda data: _with(data, "run_id", None),
}


def _with(data, key, value):
    content = json.loads(data)
    content.pop(key)
    return json.dumps(content if value is None else content | {key: value}).encode()


@pytest.mark.parametrize("key", ["run.json", "_manifest.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_json_is_one_line_that_names_the_file(labels, capsys, key, damage):
    labels.put(key, DAMAGE[damage](labels.get(key)))
    capsys.readouterr()
    for command in (["status", labels.uri], ["status", labels.uri, "--verify"]):
        code = faceattr(command)
        error = capsys.readouterr().err
        if code == 0:  # a status shows what it can
            assert command[-1] != "--verify"
            continue
        assert code in (1, 2)
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
        assert key in error
    with pytest.raises(FaceattrError, match=key):
        list(open_source("labels", labels.uri).read_all())


def test_damaged_notes_of_a_training_name_file_and_line(tmp_path):
    store = open_store(str(tmp_path))
    store.put("metrics.jsonl", b'{"epoch": 0, "val/loss": null}\n{"epoch": 1, "val/')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2, is damaged: no JSON in UTF-8"):
        read_history(store)


def test_status_verifies_every_file(labels, packed, capsys):
    for uri in (labels.uri, packed):
        assert faceattr(["status", uri, "--verify"]) == 0
        shown = capsys.readouterr().out
        sizes = [path.stat().st_size for path in Path(uri).rglob("*") if path.suffix in (".parquet", ".csv")]
        assert f"verified   {len(sizes)} files, {sum(sizes):,} bytes: all as written" in shown
    labels.put(SHARD, flip(labels.get(SHARD), 77))
    assert faceattr(["status", labels.uri, "--verify"]) == 1
    shown = capsys.readouterr().out
    assert f"damaged    {labels.uri}/{SHARD} is damaged: its sha256 is " in shown
    assert "1 are not as they were written" in shown
    labels.delete(SHARD)
    assert faceattr(["status", labels.uri, "--verify"]) == 1
    assert f"{SHARD} is gone" in capsys.readouterr().out


def test_nothing_published_has_nothing_to_be_compared_with(tmp_path, capsys):
    store = open_store(str(tmp_path))
    store.put(
        "_lease/00000001.json",
        b'{"owner": {"host": "a", "machine": "b", "started": 0.0, "pid": 1}, "beats": 3, "released": true}',
    )
    assert faceattr(["status", store.uri, "--verify"]) == 2
    assert "no published run" in capsys.readouterr().err


def test_no_flipped_bit_of_the_counts_of_labels_is_read_as_another_count(packed):
    store, key = open_store(packed), "label_counts.csv"
    good = store.get(key)
    for bit in range(0, 8 * len(good), 37):
        store.put(key, flip(good, bit))
        with pytest.raises(RunError, match=f"{key} is damaged: its sha256 is"):
            open_packed([packed], needs=())
    assert faceattr(["status", packed, "--verify"]) == 1
    store.put(key, good)
    assert faceattr(["status", packed, "--verify"]) == 0
    data = json.loads(store.get("_manifest.json"))
    del data["hashes"]  # as earlier versions published
    store.put("_manifest.json", json.dumps(data).encode())
    assert len(open_packed([packed], needs=()).splits["train"]) == 1


def test_no_flipped_bit_of_a_schema_in_run_json_is_a_traceback(labels):
    good = labels.get("run.json")
    start = good.index(b'"carried": "') + len(b'"carried": "')
    refused = []
    for bit in range(8 * start, 8 * good.index(b'"', start), 7):
        labels.put("run.json", flip(good, bit))
        try:
            read_record(labels)
        except FaceattrError as error:
            refused.append(str(error))  # other flips leave a schema that can be read
    assert len(refused) > 50
    assert all("run.json" in error and len(error.splitlines()) == 1 for error in refused)


def test_a_cut_shard_of_an_unpublished_run_is_one_line_of_its_status(labels, capsys):
    labels.delete("_manifest.json")
    labels.put(SHARD, labels.get(SHARD)[:-9])
    assert faceattr(["status", labels.uri, "--rejects"]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert f"{SHARD} is damaged" in error


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"train": []}', b'{"train"', b"\xff", b"[" * 100_000])
def test_a_damaged_survey_is_one_line_that_names_it(tmp_path, damage):
    store = open_store(str(tmp_path))
    store.put(SURVEY_KEY, damage)
    with pytest.raises(RunError, match=f"{SURVEY_KEY} is damaged") as caught:
        load_surveys(store)
    assert len(str(caught.value).splitlines()) == 1
