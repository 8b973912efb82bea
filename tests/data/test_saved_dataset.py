"""Data sets of Hugging Face as input: what `save_to_disk` of the library itself writes."""

import json

import datasets
import pyarrow as pa
import pytest

from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.inputs.open import open_input
from faceattr.data.inputs.run_images import RunImages
from faceattr.errors import ConfigError
from faceattr.jobs.images.read import ReadImages, cut_at_row_groups
from tests.data.input_rows import column, read
from tests.data.pictures import draw_picture, encode

IMAGES = [encode(draw_picture(20 + number, 30), "JPEG") for number in range(7)]
STORAGE = StorageConfig()


def make(images=IMAGES, name="image"):
    features = datasets.Features({name: datasets.Image(), "gender": datasets.ClassLabel(names=["Male", "Female"])})
    values = {
        name: [{"bytes": image, "path": None} for image in images],
        "gender": [0, 1, 0, 1, 0, 1, 1][: len(images)],
    }
    return datasets.Dataset.from_dict(values, features=features)


def read_back(source, rows=None):
    rows = pa.concat_tables(source.tables) if rows is None else rows
    numbered = rows.add_column(0, "row", pa.array(range(len(rows)), pa.int64()))
    found = {}
    for table in ReadImages(source.root, STORAGE, ImageLimitsConfig(), source.bytes_column)(numbered):
        found |= {row["row"]: row["data"] or row["status"] for row in table.to_pylist()}
    return [found[row] for row in range(len(rows))]


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_saved_data_set_is_read(tmp_path, num_shards):
    make().save_to_disk(tmp_path / "set", num_shards=num_shards)
    (tmp_path / "set" / "cache-0123.arrow").write_bytes(b"of map")
    source = open_input(str(tmp_path / "set"))
    assert (source.kind, source.root, source.bytes_column) == ("packed", str(tmp_path / "set"), "image")
    assert source.carried == pa.schema([("gender", pa.int64())])
    rows = pa.concat_tables(source.tables)
    assert rows["gender"].to_pylist() == [0, 1, 0, 1, 0, 1, 1]
    assert rows["image_id"][0].as_py() == f"data-00000-of-0000{num_shards}.arrow#0"
    assert len({(row["uri"], row["source_row"]) for row in rows.to_pylist()}) == 7
    assert read_back(source, rows) == IMAGES
    images = RunImages(source.root, "image", STORAGE, ImageLimitsConfig())
    assert [images.read(row["uri"], row["source_row"]) for row in rows.to_pylist()] == IMAGES
    assert sum(map(len, cut_at_row_groups(rows, STORAGE, 2))) == 7


def test_the_splits_of_a_dictionary_are_read_in_order_of_their_names(tmp_path):
    both = datasets.DatasetDict({"train": make(IMAGES[:4], "face"), "test": make(IMAGES[4:], "face")})
    both.save_to_disk(tmp_path / "both")
    source = open_input(str(tmp_path / "both"))
    assert source.bytes_column == "face"
    assert read_back(source) == [*IMAGES[4:], *IMAGES[:4]]
    assert column(open_input(str(tmp_path / "both" / "test")), "image_id") == [
        f"data-00000-of-00001.arrow#{row}" for row in range(3)
    ]


def test_a_row_without_an_image_is_missing(tmp_path):
    features = datasets.Features({"image": datasets.Image()})
    values = {"image": [{"bytes": IMAGES[0], "path": None}, None]}
    datasets.Dataset.from_dict(values, features=features).save_to_disk(tmp_path / "set")
    assert read_back(open_input(str(tmp_path / "set"))) == [IMAGES[0], "missing"]


def test_a_selection_is_written_out_by_the_library(tmp_path):
    make().select([5, 1]).save_to_disk(tmp_path / "set")
    assert read_back(open_input(str(tmp_path / "set"))) == [IMAGES[5], IMAGES[1]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data[:-8], "is no complete Arrow stream: cut, or another kind of file"),
        (lambda data: data[: len(data) // 2], "is no complete Arrow stream: cut, or another kind of file"),
        (lambda data: b"", "is no complete Arrow stream: cut, or another kind of file"),
    ],
)
def test_a_file_that_is_cut_is_refused(tmp_path, change, expected):
    make().save_to_disk(tmp_path / "set")
    (path,) = (tmp_path / "set").glob("*.arrow")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ConfigError, match=expected):
        read(open_input(str(tmp_path / "set")))


def test_states_that_are_refused(tmp_path):
    make().save_to_disk(tmp_path / "set")
    path = tmp_path / "set" / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"_indices_data_files": [{"filename": "i.arrow"}]}))
    with pytest.raises(ConfigError, match="save it after flatten_indices"):
        open_input(str(tmp_path / "set"))
    path.write_text("{}")
    with pytest.raises(ConfigError, match="is no state of a data set that save_to_disk wrote"):
        open_input(str(tmp_path / "set"))
    path.write_text(json.dumps({"_data_files": [{"filename": "absent.arrow"}]}))
    with pytest.raises(ConfigError, match=r"absent\.arrow does not exist"):
        open_input(str(tmp_path / "set"))


def test_a_data_set_without_images_names_the_flag(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "set")
    with pytest.raises(ConfigError, match="no column is known to hold images; name it: --bytes-column"):
        open_input(str(tmp_path / "set"))


def test_a_saved_data_set_in_object_storage_says_what_to_do(s3_uri, tmp_path):
    from tests.stores import upload_folder

    make().save_to_disk(tmp_path / "set")
    upload_folder(tmp_path / "set", s3_uri)
    with pytest.raises(ConfigError, match="read from a local disk only; copy it there, or save it with to_parquet"):
        open_input(s3_uri)
