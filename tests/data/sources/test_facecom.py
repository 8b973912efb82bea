"""FaceCom: annotations.json, and the folders of both tasks with their distorted copies."""

import json

import pytest

from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.errors import ConfigError

ENTRIES = [
    {"filename": "a.jpg", "gender": "Male", "person_id": 10},
    {"filename": "b.jpg", "gender": "Female", "person_id": "9"},
    {"filename": "c.jpg", "gender": "male"},
    {"filename": "d.jpg", "gender": "unsure", "person_id": 9},
    {"filename": "", "gender": "Male", "person_id": 9},
    {"filename": "e.jpg"},
    "f.jpg",
    {"filename": "g.jpg", "person_id": 0},
]


def touch(tmp_path, *names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return str(tmp_path)


@pytest.mark.parametrize("folder", ["", "images/"])
def test_annotations(tmp_path, folder):
    root = touch(tmp_path, f"{folder}a.jpg")
    (tmp_path / "annotations.json").write_text(json.dumps(ENTRIES))
    source = open_source("facecom", root)
    assert [(each.name, each.kind) for each in source.attributes.attributes] == [
        ("gender", "multiclass"),
        ("identity", "identity"),
    ]
    # Numbers in number order: "9" stands before "10".
    assert source.attributes["identity"].classes == ("0", "9", "10")
    table, rejects = source.read_all()
    assert table.select(["image_id", "gender", "identity", "group"]).to_pydict() == {
        "image_id": [f"{folder}{name}.jpg" for name in "abcg"],
        "gender": [0, 1, 0, None],
        "identity": [2, 1, None, 0],
        "group": ["10", "9", None, "0"],
    }
    assert rejects.counts == {"value": 1, "entry": 2, "no_label": 1}
    assert rejects.examples["value"][0].line == 4


def test_task_a_folders(tmp_path):
    root = touch(tmp_path, "Task_A/train/male/1.jpg", "Task_A/train/female/2.jpg", "Task_A/val/female/3.JPG", "x/4.jpg")
    source = open_source("facecom", root)
    assert source.attributes.names == ("gender",)
    table, rejects = source.read_all()
    found = {row["image_id"]: (row["gender"], row["split"], row["group"]) for row in table.to_pylist()}
    assert found == {
        "Task_A/train/male/1.jpg": (0, "train", None),
        "Task_A/train/female/2.jpg": (1, "train", None),
        "Task_A/val/female/3.JPG": (1, "val", None),
    }
    assert rejects.counts == {"path": 1}


@pytest.mark.parametrize("task", ["Task_B/", ""])
def test_task_b_folders(tmp_path, task):
    root = touch(
        tmp_path, f"{task}train/ann/1.jpg", f"{task}train/ann/distortion/1_rain.jpg", f"{task}val/bob/distortion/2.png"
    )
    source = open_source("facecom", root)
    assert source.attributes.names == ("identity",)
    assert source.attributes["identity"].classes == ("ann", "bob")
    found = {row["image_id"]: (row["identity"], row["group"], row["split"]) for row in source.read_all()[0].to_pylist()}
    assert found == {
        f"{task}train/ann/1.jpg": (0, "ann", "train"),
        f"{task}train/ann/distortion/1_rain.jpg": (0, "ann", "train"),
        f"{task}val/bob/distortion/2.png": (1, "bob", "val"),
    }


def test_both_tasks(tmp_path):
    root = touch(tmp_path, "Task_A/train/male/1.jpg", "Task_B/val/ann/2.jpg")
    table, _ = open_source("facecom", root).read_all()
    assert [(row["gender"], row["identity"]) for row in table.to_pylist()] == [(0, None), (None, 0)]
    with pytest.raises(ConfigError, match=r"no attribute 'genders'; did you mean 'gender'"):
        open_source("facecom", root, options=SourceOptions(attributes=("genders",)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"annotations.json line 1: found a JSON dict; expected \[\{"),
        ("[\n1,\n", "line 3: found no JSON"),
        ('[{"name": "a.jpg"}]', "line 1: expected an object with 'filename'.*None of the 1 rows"),
        ("[]", "found no rows"),
    ],
)
def test_wrong_json_is_refused(tmp_path, content, message):
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        open_source("facecom", str(tmp_path))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"found no rows; expected annotations.json, Task_A"):
        open_source("facecom", str(tmp_path))
