"""FairFace: the official layout, its damaged copies, both class orders, and the 10,000 rows beside the project."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from faceattr.data.packed.copies.identical import find_duplicates
from faceattr.data.packed.splits import plan_splits
from faceattr.data.sources.face_classes import AGE_GROUPS, GENDERS, RACES, SEED_004_CLASSES
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.errors import ConfigError
from tests.data.sources.writers import write_fairface

SHARED = Path(__file__).resolve().parents[4] / "shared" / "fairface"
needs_sample = pytest.mark.skipif(not SHARED.is_dir(), reason="the FairFace sample is not beside the project")
HEADER = "file,age,gender,race,service_test\n"
ALL = SourceOptions(attributes=("age", "age_group", "gender", "race", "race_group"))


def folder(tmp_path, train, val=None):
    (tmp_path / "fairface_label_train.csv").write_text(HEADER + train)
    if val is not None:
        (tmp_path / "fairface_label_val.csv").write_text(HEADER + val)
    return str(tmp_path)


def test_rows_become_the_expected_table(tmp_path):
    root = folder(
        tmp_path,
        "train/1.jpg,50-59,Male,East Asian,True\ntrain/2.jpg,more than 70,Female,Latino_Hispanic,False\n",
        "val/1.jpg,3-9,Male,White,False\n",
    )
    source = open_source("fairface", root, options=ALL)
    table, rejects = source.read_all()
    assert rejects.total == 0
    assert rejects.repairs == {}
    assert table.schema.equals(source.schema)
    expected = {
        "image_id": ["train/1.jpg", "train/2.jpg", "val/1.jpg"],
        "uri": [f"{root}/train/1.jpg", f"{root}/train/2.jpg", f"{root}/val/1.jpg"],
        "source_row": [None] * 3,
        "sha256": [None] * 3,
        "group": [None] * 3,
        "split": ["train", "train", "val"],
        "age_low": [50.0, 70.0, 3.0],
        "age_high": [60.0, 117.0, 10.0],
        "age_group": [6, 8, 1],
        "age_group_mask": [None] * 3,
        "gender": [0, 1, 0],
        "gender_mask": [None] * 3,
        "race": [3, 2, 0],
        "race_mask": [None] * 3,
        "race_group": [2, 4, 0],
        "race_group_mask": [None] * 3,
    }
    assert table.to_pydict() == expected


def test_damaged_copies_are_repaired_and_counted(tmp_path):
    root = folder(
        tmp_path,
        "fairface-img-margin025-trainval/train/1.jpg,03-Sep,Male,Black,\n"
        "/content/data/val/7.jpg,Oct-19,Female,Latino Hispanic,\n"
        "train/3.jpg,9-Mar,female,Indian,\n"
        "train\\4.jpg,70+,Male,Middle Eastern,\n",
    )
    table, rejects = open_source("fairface", root).read_all()
    assert table["image_id"].to_pylist() == ["train/1.jpg", "val/7.jpg", "train/3.jpg", "train/4.jpg"]
    assert table["split"].to_pylist() == ["train", "val", "train", "train"]
    assert [AGE_GROUPS[index] for index in table["age_group"].to_pylist()] == ["3-9", "10-19", "3-9", "more than 70"]
    assert rejects.repairs == {"age_became_date": 3, "path_prefix": 2, "age_open_range": 1}
    assert rejects.total == 0


def test_broken_rows_are_counted_with_line_and_text(tmp_path):
    root = folder(
        tmp_path,
        "train/1.jpg,3-9,Male,Black,\n"
        "train/2.jpg,4-7,Male,Black,\n"
        "train/3.jpg,3-9,Male\n"
        "../4.jpg,3-9,Male,Black,\n"
        "train/5.jpg,,Female,,\n"
        "train/6.jpg,,,,\n",
    )
    table, rejects = open_source("fairface", root).read_all()
    assert table["image_id"].to_pylist() == ["train/1.jpg", "train/5.jpg"]
    assert table["age_group"].to_pylist() == [1, None]
    assert rejects.counts == {"value": 1, "columns": 1, "path": 1, "no_label": 1}
    example = rejects.examples["value"][0]
    assert (example.line, example.text) == (3, "train/2.jpg,4-7,Male,Black,")
    assert "fairface_label_train.csv line 3: age '4-7' is none of 0-2" in rejects.describe()


def test_a_wrong_header_names_file_line_and_what_was_expected(tmp_path):
    (tmp_path / "fairface_label_train.csv").write_text("image,years\n1.jpg,4\n")
    with pytest.raises(
        ConfigError, match=r"fairface_label_train.csv line 1: found 'image,years'; expected the header file,age"
    ):
        open_source("fairface", str(tmp_path))


def test_a_file_without_one_good_row_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"line 2: age 'x'.*None of the 2 rows could be read"):
        open_source("fairface", folder(tmp_path, "train/1.jpg,x,Male,Black,\ntrain/2.jpg,y,Male,Black,\n"))


def test_a_folder_without_labels_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"found none of fairface_label_train.csv"):
        open_source("fairface", str(tmp_path))


def test_seed_004_order_is_sorted_on_strings(tmp_path):
    natural = {"age_group": AGE_GROUPS, "gender": GENDERS, "race": RACES}
    assert {name: tuple(sorted(classes)) for name, classes in natural.items()} == SEED_004_CLASSES
    root = folder(tmp_path, "train/1.jpg,3-9,Male,White,\ntrain/2.jpg,10-19,Female,Black,\n")
    source = open_source("fairface", root, options=SourceOptions(class_order="sorted"))
    table, _ = source.read_all()
    assert table["age_group"].to_pylist() == [3, 1]
    assert table["gender"].to_pylist() == [1, 0]
    assert table["race"].to_pylist() == [6, 0]
    for name, classes in SEED_004_CLASSES.items():
        assert source.attributes[name].classes == classes


@pytest.mark.parametrize("order", ["natural", "sorted"])
def test_round_trip(tmp_path, order):
    options = SourceOptions(class_order=order)
    root = folder(tmp_path, "train/1.jpg,3-9,Male,White,True\ntrain/2.jpg,more than 70,,Middle Eastern,\n")
    first, _ = open_source("fairface", root, options=options).read_all()
    write_fairface([first], tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text() == (
        HEADER + "train/1.jpg,3-9,Male,White,\ntrain/2.jpg,more than 70,,Middle Eastern,\n"
    )
    again = SourceOptions(class_order=order, files=("again.csv",))
    assert open_source("fairface", root, options=again).read_all()[0].equals(first)


@needs_sample
def test_the_sample_is_read_whole(tmp_path):
    source = open_source("fairface", str(SHARED))
    table, rejects = source.read_all()
    assert (table.num_rows, rejects.total, rejects.repairs) == (10_000, 0, {})
    assert table["split"].value_counts().to_pylist() == [
        {"values": "train", "counts": 8_000},
        {"values": "val", "counts": 2_000},
    ]
    train = table.slice(0, 8_000)
    counts = {row["values"]: row["counts"] for row in train["age_group"].value_counts().to_pylist()}
    assert [counts[index] for index in range(9)] == [175, 946, 915, 2270, 1822, 957, 591, 253, 71]
    counts = {row["values"]: row["counts"] for row in train["gender"].value_counts().to_pylist()}
    assert counts == {0: 4192, 1: 3808}
    write_fairface([train], tmp_path / "train.csv")
    options = SourceOptions(files=("train.csv",))
    again, _ = open_source("fairface", str(tmp_path), options=options).read_all()
    assert again.drop_columns("uri").equals(train.drop_columns("uri"))


@needs_sample
def test_copies_in_the_sample_never_straddle_splits():
    source = open_source("fairface", str(SHARED))
    table, _ = source.read_all()
    digests = [hashlib.sha256((SHARED / key).read_bytes()).hexdigest() for key in table["image_id"].to_pylist()]
    table = table.set_column(table.column_names.index("sha256"), "sha256", pa.array(digests))
    duplicates = find_duplicates(lambda: [table], source.attributes)
    # Counted independently: sha256sum train/* val/* | sort | uniq -d. The three pairs are in train and agree.
    assert sorted(group.image_ids for group in duplicates) == [
        ("train/154.jpg", "train/2592.jpg"),
        ("train/2738.jpg", "train/6847.jpg"),
        ("train/287.jpg", "train/7215.jpg"),
    ]
    assert all(group.conflicts == () for group in duplicates)
    kept = plan_splits(lambda: [table]).assign(table)
    assert kept.to_pylist() == table["split"].to_pylist()
    drawn = plan_splits(lambda: [table], official={}).assign(table).to_pylist()
    by_image = dict(zip(table["image_id"].to_pylist(), drawn, strict=True))
    assert all(len({by_image[image] for image in group.image_ids}) == 1 for group in duplicates)
    # Three standard deviations of a binomial are 120 and 90 rows.
    assert abs(drawn.count("train") - 8_000) < 120
    assert abs(drawn.count("val") - 1_000) < 90
