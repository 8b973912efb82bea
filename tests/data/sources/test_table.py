"""A plain CSV or Parquet file with a mapping: every kind of attribute, scores, wrong mappings."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.data.sources.layouts.table import MappedColumn, parse_mapping
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.errors import ConfigError

COLUMNS = (
    "image=path",
    "split=part",
    "hat=wearing:binary",
    "hat_score=p_hat:score",
    "race=Race:White|Black|Asian",
    "age=years:age",
    "identity=who:identity",
)
CSV = """path;part;wearing;p_hat;Race;years;who
a.jpg;train;1;0.75;Black;25;zoe
b.jpg;;-1;;White|Asian;20-29;
c.jpg;val;;0;;70+;ann
"""
EXPECTED = {
    "image_id": ["a.jpg", "b.jpg", "c.jpg"],
    "group": ["zoe", None, "ann"],
    "split": ["train", None, "val"],
    "hat": [1, 0, None],
    "hat_score": [0.75, None, 0.0],
    "hat_mass": [None, None, None],
    "race": [1, None, None],
    "race_mask": [None, 0b101, None],
    "age_low": [25.0, 20.0, 70.0],
    "age_high": [26.0, 30.0, 117.0],
    "identity": [1, None, 0],
}


def test_csv_with_a_mapping(tmp_path):
    (tmp_path / "labels.csv").write_text(CSV)
    source = open_source("table", str(tmp_path), options=SourceOptions(columns=COLUMNS))
    assert source.scored == {"hat"}
    assert source.attributes["identity"].classes == ("ann", "zoe")
    table, rejects = source.read_all()
    assert rejects.total == 0
    assert table.select(list(EXPECTED)).to_pydict() == EXPECTED


def test_parquet_with_a_mapping(tmp_path):
    columns = {
        "path": ["a.jpg", "b.jpg", "c.jpg"],
        "part": ["train", None, "val"],
        "wearing": pa.array([True, False, None]),
        "p_hat": [0.75, None, 0.0],
        "Race": ["Black", "White|Asian", None],
        "years": ["25", "20-29", "70+"],
        "who": ["zoe", None, "ann"],
        "unused": [b"\xff", b"", b""],
    }
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    options = SourceOptions(columns=COLUMNS, files=("data.parquet",))
    table, _ = open_source("table", str(tmp_path), options=options).read_all()
    assert table.select(list(EXPECTED)).to_pydict() == EXPECTED


def test_without_a_mapping_every_column_is_binary(tmp_path):
    pq.write_table(
        pa.table({"file": ["a.jpg", "b.jpg"], "Big Hat": [1.0, 0.0], "split": ["val", None]}),
        tmp_path / "labels.parquet",
    )
    source = open_source("table", str(tmp_path))
    table, _ = source.read_all()
    assert source.attributes.names == ("big_hat",)
    assert table.select(["image_id", "split", "big_hat"]).to_pydict() == {
        "image_id": ["a.jpg", "b.jpg"],
        "split": ["val", None],
        "big_hat": [1, 0],
    }


def test_parquet_text_that_is_no_utf8_is_named(tmp_path):
    names = pa.array([b"\xff.jpg"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"file": names, "hat": [1]}), tmp_path / "labels.parquet")
    with pytest.raises(ConfigError, match=r"labels\.parquet cannot be read as a table: .*UTF8"):
        open_source("table", str(tmp_path)).read_all()


def test_broken_rows_are_counted(tmp_path):
    (tmp_path / "labels.csv").write_text(
        "image,hat,race,age,p\na.jpg,1,White,3,0.5\nb.jpg,2,White,3,\nc.jpg,1,Blue,3,\nd.jpg,1,White,200,\n"
        "e.jpg,1,White,3,1.5\nf.jpg,1\n,1,White,3,\ng.jpg,1,White,9-3,\n"
    )
    columns = ("hat=hat", "race=race:White|Black", "age=age:age", "hat_score=p:score")
    table, rejects = open_source("table", str(tmp_path), options=SourceOptions(columns=columns)).read_all()
    assert table["image_id"].to_pylist() == ["a.jpg"]
    assert rejects.counts == {"value": 5, "columns": 1, "path": 1}
    assert [each.line for each in rejects.examples["value"]] == [3, 4, 5]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("hat=Wearing Hat", MappedColumn(name="hat", column="Wearing Hat")),
        ("hat=a=b", MappedColumn(name="hat", column="a=b")),
        ("race=R:x|y", MappedColumn(name="race", column="R", kind="multiclass", classes=("x", "y"))),
        ("age=years:age", MappedColumn(name="age", column="years", kind="age")),
    ],
)
def test_mapping_entries(entry, expected):
    assert parse_mapping(entry) == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("hat",), "'hat': expected name=column"),
        (("hat=wearing:binry",), "kind 'binry'; did you mean 'binary'"),
        (("hat=waering",), "no column 'waering'; did you mean 'wearing'"),
        (("hat=wearing", "hat=part"), r"\['hat'\] are given twice"),
        (("split=part",), "names no attribute"),
        (("hat=wearing", "cap_score=p_hat:score"), "there is no binary attribute 'cap'"),
        (("hat=wearing", "p=p_hat:score"), "a score is named after its attribute"),
        (("Hat=wearing",), "expected lower-case letters"),
        (("age=years:age", "age_low=wearing"), "attribute name 'age_low' is used by the tables"),
        (("hat=Race",), r"line 2: hat 'Black' is none of 1, 0.*no; .* hat=Race:A\|B\|C.*None of the 2 rows"),
    ],
)
def test_wrong_mappings_are_refused(tmp_path, columns, message):
    (tmp_path / "labels.csv").write_text(CSV.replace("c.jpg;val;;0;;70+;ann\n", ""))
    with pytest.raises(ConfigError, match=message):
        open_source("table", str(tmp_path), options=SourceOptions(columns=("image=path", *columns))).read_all()


def test_a_table_without_an_image_column_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("picture,hat\na.jpg,1\n")
    with pytest.raises(ConfigError, match=r"line 1: found the columns \['picture', 'hat'\]"):
        open_source("table", str(tmp_path))
