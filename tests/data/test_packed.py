"""The reader of packed runs: what it gives from a folder and from S3, from one run and from several; its refusals."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.version import read_manifest
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError, RunError, StorageError
from tests.packed_runs import write_packed_run

HAT = Attribute(name="hat")
RACE = Attribute(name="race", kind="multiclass", classes=("White", "Black", "East Asian"))
AGE = Attribute(name="age", kind="age", classes=())
ATTRIBUTES = AttributeSet(attributes=(HAT, RACE, AGE))
ROWS = {
    "train": [
        {"image": b"one", "hat": 1, "hat_score": 0.75, "race": 2, "age_low": 20.0, "age_high": 30.0, "group": "ann"},
        {"image": None, "hat": 0},
        {"image": b"three", "hat": 0, "race_mask": 6},
    ],
    "val": [{"image": b"four", "image_id": "other/4.png", "width_px": 3, "height_px": 2}],
}


def write(uri, attributes=ATTRIBUTES, rows=ROWS, **options):
    return write_packed_run(uri, attributes, rows, scored=frozenset(["hat"]), **options)


@pytest.fixture(params=["folder", "s3"])
def place(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "run")
    return request.getfixturevalue("s3_uri")


def test_what_one_run_holds(place):
    uri = write(place, shard_size=2)
    data = pickle.loads(pickle.dumps(open_packed([uri])))
    assert data.attributes == ATTRIBUTES
    assert data.scored == {"hat"}
    assert data.label_columns == ("hat", "hat_score", "hat_mass", "race", "race_mask", "age_low", "age_high")
    assert [(data.num_rows(split), len(data.splits[split])) for split in ("train", "val", "test")] == [
        (2, 2),
        (1, 1),
        (0, 0),
    ]
    assert [file.uri.removeprefix(uri) for file in data.splits["train"]] == [
        "/packed/split=train/shard-00000000.parquet",
        "/packed/split=train/shard-00000001.parquet",
    ]
    (row,) = data.read_rows(data.splits["train"][0]).to_pylist()
    assert row == {
        "row": 0,
        "image_id": "train/00000.jpg",
        "image": b"one",
        # printf one | sha256sum
        "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        "width_px": None,
        "height_px": None,
        "group": "ann",
        "split": "train",
        "hat": 1,
        "hat_score": 0.75,
        "hat_mass": None,
        "race": 2,
        "race_mask": None,
        "age_low": 20.0,
        "age_high": 30.0,
    }
    train = pa.concat_tables(data.iter_split("train", ["split", "race_mask", "row"]))
    assert train.to_pylist() == [
        {"split": "train", "race_mask": None, "row": 0},
        {"split": "train", "race_mask": 6, "row": 2},
    ]
    (val,) = data.iter_split("val")
    assert val.schema.equals(data.schema)
    assert val.select(["image_id", "width_px", "height_px", "split"]).to_pylist() == [
        {"image_id": "other/4.png", "width_px": 3, "height_px": 2, "split": "val"}
    ]
    # The rejected row's label is counted nowhere.
    assert data.count_labels("train", "hat") == {"no": 1, "yes": 1, "unknown": 0}
    assert data.count_labels("train", "race") == {
        "White": 0,
        "Black": 0,
        "East Asian": 1,
        "Black|East Asian": 1,
        "unknown": 0,
    }
    assert data.count_labels("val", "age") == {"20-29": 0, "unknown": 1}


def test_row_groups_are_streamed(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.bytes(5 * 2**20) for _ in range(8)]
    uri = write(tmp_path, rows={"train": [{"image": image} for image in images], "val": ROWS["val"]})
    data = open_packed([uri])
    (file,) = data.splits["train"]
    tables = list(data.iter_rows(file, ["image"]))
    assert max(table.nbytes for table in tables) < 32 * 2**20
    assert len(tables) > 1
    assert [image for table in tables for image in table["image"].to_pylist()] == images
    columns = pq.ParquetFile(file.uri).metadata.row_group(0)
    codecs = {columns.column(place).path_in_schema: columns.column(place).compression for place in range(9)}
    assert (codecs["image"], codecs["sha256"]) == ("UNCOMPRESSED", "ZSTD")


def test_the_folder_is_a_plain_hive_data_set(tmp_path):
    uri = write(tmp_path, shard_size=2)
    table = pq.read_table(f"{uri}/packed")
    assert table["split"].to_pylist() == ["train"] * 3 + ["val"]
    assert table["status"].to_pylist() == ["ok", "missing", "ok", "ok"]


def test_several_runs_are_one_data_set(tmp_path):
    first = write(tmp_path / "a")
    glasses = Attribute(name="glasses")
    rows = {"train": [{"image": b"five", "glasses": 1}], "test": [{"image": b"six", "hat": 1}]}
    second = write_packed_run(tmp_path / "b", AttributeSet(attributes=(glasses, HAT)), rows)
    data = open_packed([first, second], needs=("train", "val", "test"))
    assert data.attributes.names == ("hat", "race", "age", "glasses")
    assert [data.num_rows(split) for split in ("train", "val", "test")] == [3, 1, 1]
    train = pa.concat_tables(data.iter_split("train", ["image", "hat", "hat_score", "glasses"]))
    assert train.to_pylist() == [
        {"image": b"one", "hat": 1, "hat_score": 0.75, "glasses": None},
        {"image": b"three", "hat": 0, "hat_score": None, "glasses": None},
        {"image": b"five", "hat": None, "hat_score": None, "glasses": 1},
    ]
    assert data.count_labels("train", "hat") == {"no": 1, "yes": 1, "unknown": 1}
    assert data.count_labels("train", "glasses") == {"no": 0, "yes": 1, "unknown": 0}
    assert open_packed([second, first]).fingerprint == data.fingerprint
    assert open_packed([first]).fingerprint != data.fingerprint


def test_the_fingerprint_is_that_of_the_content(tmp_path):
    first = open_packed([write(tmp_path / "a")]).fingerprint
    assert open_packed([str(tmp_path / "a")]).fingerprint == first
    other = {**ROWS, "train": [{"image": b"two"}]}
    assert open_packed([write(tmp_path / "b", rows=other)]).fingerprint != first


def test_places_that_are_no_packed_run(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no packed run \(no run\.json\).*faceattr pack --labels"):
        open_packed([str(tmp_path / "nothing")])
    unpublished = write(tmp_path / "begun", publish=False)
    with pytest.raises(ConfigError, match=r"not published yet; run its `faceattr pack` command again"):
        open_packed([unpublished])
    uri = write(tmp_path / "run")
    with pytest.raises(ConfigError, match="are the same packed run; name it once"):
        open_packed([uri, uri])
    with pytest.raises(ConfigError, match="no packed run was named"):
        open_packed([])
    store = open_store(uri)
    store.put("run.json", store.get("run.json").replace(b'"kind": "pack"', b'"kind": "label"'))
    with pytest.raises(ConfigError, match=rf"holds a label run.*faceattr pack --labels {uri} --output"):
        open_packed([uri])


def test_an_empty_split_is_refused_if_it_is_needed(tmp_path):
    uri = write(tmp_path, rows={"train": [{"image": b"one"}], "val": [{"image": None}]})
    with pytest.raises(ConfigError, match=r"the split 'val' is empty \(train 1, val 0, test 0\).*--splits\.val 0\.1"):
        open_packed([uri])
    assert open_packed([uri], needs=("train",)).num_rows("train") == 1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            ("White", "Black", "East_Asian"),
            "class 'East_Asian' is not among the first one's; did you mean 'East Asian'",
        ),
        (("White", "Black"), "the second one lacks the class 'East Asian'"),
        (("Black", "White", "East Asian"), "another order, 'White' there and 'Black' here"),
    ],
)
def test_class_lists_that_differ(tmp_path, other, message):
    first = write(tmp_path / "a")
    race = Attribute(name="race", kind="multiclass", classes=other)
    second = write(tmp_path / "b", attributes=AttributeSet(attributes=(HAT, race)), rows={"train": [{"image": b"x"}]})
    with pytest.raises(ConfigError, match=rf"attribute 'race' is not the same in .*{message}.*Pack one of them again"):
        open_packed([first, second])


def test_kinds_that_differ(tmp_path):
    first = write(tmp_path / "a")
    hat = Attribute(name="hat", kind="multiclass", classes=("cap", "none"))
    second = write_packed_run(tmp_path / "b", AttributeSet(attributes=(hat,)), {"train": [{"image": b"x"}]})
    with pytest.raises(ConfigError, match="binary there, multiclass here"):
        open_packed([first, second])


def test_columns_that_are_not_there(tmp_path):
    data = open_packed([write(tmp_path)])
    with pytest.raises(ConfigError, match="no column 'races'; did you mean 'race'"):
        data.read_rows(data.splits["train"][0], ["races"])


def test_files_that_are_gone_damaged_or_out_of_reach(tmp_path):
    uri = write(tmp_path / "run")
    data = open_packed([uri], StorageConfig(deadline_s=0.1))
    (file,) = data.splits["train"]
    path = tmp_path / "run" / "packed" / "split=train" / "shard-00000000.parquet"
    whole = path.read_bytes()
    place = whole.index(b"three")
    path.write_bytes(whole[:place] + b"eerht" + whole[place + 5 :])
    with pytest.raises((RunError, StorageError), match="shard-00000000"):
        data.read_rows(file)
    path.write_bytes(whole[:50])
    with pytest.raises(RunError, match="is damaged"):
        data.read_rows(file)
    path.unlink()
    with pytest.raises(RunError, match="is gone, though the run's manifest lists it"):
        data.read_rows(file)
    (tmp_path / "run" / "label_counts.csv").unlink()
    with pytest.raises(RunError, match=r"label_counts\.csv is gone"):
        open_packed([uri])


def test_a_manifest_counts_what_the_reader_gives(tmp_path):
    uri = write(tmp_path, shard_size=1)
    manifest = read_manifest(open_store(uri))
    assert (manifest.num_rows, manifest.status_counts) == (4, {"missing": 1, "ok": 3})
    data = open_packed([uri])
    for split in ("train", "val"):
        assert all(len(data.read_rows(file)) == file.num_rows for file in data.splits[split])
