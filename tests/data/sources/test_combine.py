"""Two data sets as one: UTKFace's coarse race and exact ages beside FairFace's fine race and age ranges."""

import pytest

from faceattr.data.sources.gather import combine_sources
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.data.sources.source import Rejects
from faceattr.errors import ConfigError


def sources(tmp_path, fairface, utkface):
    for name in ("f", "u"):
        (tmp_path / name).mkdir()
    (tmp_path / "f" / "fairface_label_train.csv").write_text(
        "file,age,gender,race\n1.jpg,3-9,Male,Indian\n2.jpg,x,Male,Black\n"
    )
    (tmp_path / "u" / "25_1_2_9.jpg").write_bytes(b"")
    return {
        "fairface": open_source("fairface", str(tmp_path / "f"), options=SourceOptions(attributes=fairface)),
        "utkface": open_source("utkface", str(tmp_path / "u"), options=SourceOptions(attributes=utkface)),
    }


def test_one_head_from_two_sources(tmp_path):
    combined = combine_sources(sources(tmp_path, ("age", "race", "age_group"), ("age", "race", "gender")))
    assert combined.attributes.names == ("age", "race", "age_group", "gender")
    table, rejects = combined.read_all()
    assert table.schema.equals(combined.schema)
    assert table.drop_columns(["source_row", "sha256", "split"]).to_pydict() == {
        "image_id": ["fairface/1.jpg", "utkface/25_1_2_9.jpg"],
        "uri": [f"{tmp_path}/f/1.jpg", f"{tmp_path}/u/25_1_2_9.jpg"],
        "group": [None, None],
        "age_low": [3.0, 25.0],
        "age_high": [10.0, 26.0],
        "race": [5, None],
        "race_mask": [None, 0b11000],
        "age_group": [1, None],
        "age_group_mask": [None, None],
        "gender": [None, 1],
        "gender_mask": [None, None],
    }
    assert rejects.counts == {"value": 1}


def test_groups_get_the_name_in_front(tmp_path):
    (tmp_path / "annotations.json").write_text('[{"filename": "a.jpg", "gender": "Male", "person_id": 1}]')
    source = open_source("facecom", str(tmp_path))
    (table,) = combine_sources({"one": source}).tables(Rejects())
    assert table["group"].to_pylist() == ["one/1"]


def test_an_attribute_with_two_meanings_is_refused(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "labels.csv").write_text("image,race\na.jpg,1\n")
    both = sources(tmp_path, ("race",), ("race",)) | {"own": open_source("table", str(tmp_path / "t"))}
    with pytest.raises(
        ConfigError, match=r"attribute 'race' is multiclass \[White, .*\] in 'fairface' and binary \[no, yes\] in 'own'"
    ):
        combine_sources(both)
