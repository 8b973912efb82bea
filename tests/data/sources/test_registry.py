"""The registry's refusals, and the common table itself."""

import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import class_label, read_attributes, source_schema
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES
from faceattr.data.sources.label_values import attribute_name, identity_classes, parse_age
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import SOURCE_KINDS, open_source
from faceattr.data.sources.source import BadRow, Rejects
from faceattr.errors import ConfigError


def test_an_unknown_kind_names_the_near_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"source 'fair_face': did you mean 'fairface'"):
        open_source("fair_face", str(tmp_path))
    with pytest.raises(ConfigError, match="known are labels, label_list, celeba, fairface, utkface, facecom, table"):
        open_source("xyz", str(tmp_path))


def test_an_option_that_a_kind_does_not_know_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"source 'utkface' has no option 'files'; it knows attributes, image_folder"):
        open_source("utkface", str(tmp_path), options=SourceOptions(files=("a.csv",)))
    (tmp_path / "fairface_label_train.csv").write_text("file,age,gender,race\n")
    with pytest.raises(ConfigError, match=r"class_order 'sortd': did you mean 'sorted'"):
        open_source("fairface", str(tmp_path), options=SourceOptions(class_order="sortd"))


@pytest.mark.parametrize("kind", [kind for kind in SOURCE_KINDS if kind not in ("labels", "utkface")])
def test_a_named_file_that_is_not_there(tmp_path, kind):
    with pytest.raises(ConfigError, match=r"nothing.csv does not exist"):
        open_source(kind, str(tmp_path), options=SourceOptions(files=("nothing.csv",)))


def test_two_sources_with_one_race_head_have_one_schema():
    attributes = AttributeSet(attributes=(FACE_ATTRIBUTES["age"], FACE_ATTRIBUTES["race"]))
    schema = source_schema(attributes)
    assert [(field.name, field.type) for field in schema][6:] == [
        ("age_low", pa.float32()),
        ("age_high", pa.float32()),
        ("race", pa.int16()),
        ("race_mask", pa.int64()),
    ]
    assert read_attributes(schema) == attributes


def test_types_of_every_kind():
    attributes = AttributeSet(
        attributes=(
            Attribute(name="hat"),
            Attribute(name="hair", kind="multiclass", classes=("a", "b")),
            Attribute(name="many", kind="multiclass", classes=tuple(map(str, range(64)))),
            Attribute(name="who", kind="identity", classes=("x\ny",)),
        )
    )
    schema = source_schema(attributes, ["hat", "hair"])
    assert {field.name: field.type for field in schema if field.name not in source_schema(attributes).names[:6]} == {
        "hat": pa.int8(),
        "hat_score": pa.float32(),
        "hat_mass": pa.float32(),
        "hair": pa.int16(),
        "hair_mask": pa.int64(),
        "hair_score": pa.list_(pa.float32()),
        "hair_mass": pa.float32(),
        "many": pa.int16(),
        "who": pa.int32(),
    }
    assert read_attributes(schema) == attributes


def test_class_labels():
    assert class_label("race", [4]) == {"race": 4}
    assert class_label("race", [3, 4, 3]) == {"race_mask": 24}
    # The highest bit of a mask still fits a signed 64-bit integer.
    assert pa.array([class_label("x", [0, 62])["x_mask"]], pa.int64()).to_pylist() == [2**62 + 1]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("25", 25, 26),
        ("25.9", 25, 26),
        ("0", 0, 1),
        ("116", 116, 117),
        ("20-29", 20, 30),
        ("70+", 70, 117),
        ("more than 70", 70, 117),
        (">=70", 70, 117),
        ("5 - 9", 5, 10),
    ],
)
def test_ages(text, low, high):
    assert parse_age(text, "age") == {"age_low": low, "age_high": high}


@pytest.mark.parametrize("text", ["-1", "117", "9-3", "old", "inf", "1e400", "3-200", "117+"])
def test_wrong_ages(text):
    with pytest.raises(BadRow, match="is not an age"):
        parse_age(text, "age")


def test_identity_order():
    assert identity_classes({"10", "9", "009"}) == ("009", "9", "10")
    assert identity_classes({"10", "9", "a"}) == ("10", "9", "a")


def test_attribute_names():
    assert attribute_name("5_o_Clock_Shadow") == "five_o_clock_shadow"
    assert attribute_name(" Wearing Hat ") == "wearing_hat"


def test_rejects_keep_a_few_examples():
    rejects = Rejects()
    for line in range(1, 6):
        rejects.reject(BadRow("value", "bad"), where="f.csv", line=line, text="x" * 500)
    assert (rejects.total, len(rejects.examples["value"])) == (5, 3)
    assert len(rejects.examples["value"][0].text) == 120
    assert rejects.describe().splitlines()[0] == "rejected 5 rows: value"
