"""UTKFace: names with all parts, with missing ones, and its coarse race as masks over FairFace's classes."""

from pathlib import Path

import pytest

from faceattr.data.sources.face_classes import RACE_GROUP_MEMBERS, RACE_GROUPS, RACES, age_group_of, age_group_range
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.errors import ConfigError

NAMES = [
    "100_1_0_20170112213500903.jpg.chip.jpg",
    "25_0_2_20170116174525125.jpg",
    "39_1_20170116174525125.jpg.chip.jpg",  # race is missing
    "61_3_1_20170109150557335.jpg",  # no such gender
    "sub/1_0_4_20161219140642920.JPG",
    "readme.txt",
]


@pytest.fixture
def root(tmp_path):
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return str(tmp_path)


def test_names_become_the_expected_table(root):
    options = SourceOptions(attributes=("age", "age_group", "gender", "race_group", "race"))
    table, rejects = open_source("utkface", root, options=options).read_all()
    columns = ["image_id", "age_low", "age_high", "age_group", "gender", "race_group", "race", "race_mask"]
    assert table.select(columns).to_pylist() == [
        dict(zip(columns, row, strict=True))
        for row in [
            (NAMES[0], 100.0, 101.0, 8, 1, 0, 0, None),
            (NAMES[1], 25.0, 26.0, 3, 0, 2, None, 0b0011000),  # East Asian 3, Southeast Asian 4
            (NAMES[4], 1.0, 2.0, 0, 0, 4, None, 0b1000100),  # Latino_Hispanic 2, Middle Eastern 6
        ]
    ]
    assert table["uri"].to_pylist()[0] == f"{root}/{NAMES[0]}"
    assert table["split"].null_count == table["group"].null_count == 3
    assert rejects.counts == {"parts": 1, "value": 1}
    assert rejects.examples["parts"][0].text == NAMES[2]
    assert rejects.examples["parts"][0].line is None


def test_default_attributes_are_seed_003s(root):
    source = open_source("utkface", root)
    assert [(each.name, each.kind, each.classes) for each in source.attributes.attributes] == [
        ("age", "age", ()),
        ("gender", "multiclass", ("Male", "Female")),
        ("race_group", "multiclass", ("White", "Black", "Asian", "Indian", "Others")),
    ]


def test_a_folder_of_other_names_is_refused(tmp_path):
    (tmp_path / "000001.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"found 1 parts.*'000001.jpg'.*expected image names such as 25_0_2_"):
        open_source("utkface", str(tmp_path))


def test_age_limits(tmp_path):
    for name in ("0_0_0_1.jpg", "116_0_0_1.jpg", "117_0_0_1.jpg", "-1_0_0_1.jpg", "25_0_0_.jpg"):
        (tmp_path / name).write_bytes(b"")
    table, rejects = open_source("utkface", str(tmp_path)).read_all()
    assert sorted(table["age_low"].to_pylist()) == [0.0, 116.0]
    assert rejects.counts == {"value": 2, "parts": 1}


def test_every_fine_race_has_one_coarse_class():
    assert sorted(name for members in RACE_GROUP_MEMBERS.values() for name in members) == sorted(RACES)
    assert tuple(RACE_GROUP_MEMBERS) == RACE_GROUPS


def test_every_age_has_one_group():
    for age in range(117):
        low, high = age_group_range(age_group_of(age))
        assert low <= age < high


def test_files_that_are_no_images_are_counted(root):
    folder = Path(root)
    for name in ("25_0_2_20170116174525125.heic", "26_1_3_20170116174525125", "notes.txt", "._25_0_2_1.jpg"):
        (folder / name).write_bytes(b"")
    table, rejects = open_source("utkface", root).read_all()
    assert {"25_0_2_20170116174525125.heic", "26_1_3_20170116174525125"} <= set(table["image_id"].to_pylist())
    assert rejects.describe().endswith(
        "other files, no images: 2 (.txt 2)\nother files, skipped, of the operating system: 1 (._* 1)"
    )
