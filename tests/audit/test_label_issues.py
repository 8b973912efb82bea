"""`faceattr audit issues` on a packed run of drawn faces, without Ray: the list, its signals, and what is refused."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.audit.issues.rules import evaluate_rule
from faceattr.cli import main
from faceattr.data.formats.parquet import read_provenance
from faceattr.data.packed.label_issues import LABEL_ISSUES_SCHEMA
from faceattr.data.sources.face_classes import FACE_ATTRIBUTES
from faceattr.models.backbones.names import build_backbone
from faceattr.models.multitask import MultiAttributeModel
from tests.packed_runs import write_packed_run

ATTRIBUTES = AttributeSet(
    attributes=(Attribute(name="bright"), Attribute(name="rare"), FACE_ATTRIBUTES["age"], Attribute(name="guess"))
)
SPLITS = {"train": 120, "val": 30, "test": 10}


def picture(rng: np.random.Generator, bright: bool) -> bytes:
    pixels = rng.integers(0, 60, (40, 40, 3)) + (170 if bright else 20)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """160 plain pictures, bright or dark, of which 8 have the wrong label; one row without an image."""
    rng = np.random.default_rng(0)
    wrong = {("train", place) for place in (3, 17, 40, 77, 99)} | {("val", 4), ("val", 20), ("test", 7)}
    rows = {}
    for split, count in SPLITS.items():
        rows[split] = []
        for place in range(count):
            bright = bool(rng.random() < 0.5)
            given = bright != ((split, place) in wrong)
            row = {"image": picture(rng, bright), "bright": int(given), "rare": int(place == 1), "age_low": 20.0}
            row |= {"age_high": 30.0, "guess": int(given), "guess_score": 0.9 if given else 0.05, "guess_mass": 1.0}
            rows[split].append(row)
    rows["train"][0]["bright"] = None
    rows["train"].insert(10, {"image": None, "bright": 1})
    uri = write_packed_run(
        tmp_path_factory.mktemp("packed") / "run", ATTRIBUTES, rows, scored=frozenset({"guess"}), shard_size=64
    )
    # The row without an image moves those behind it.
    return uri, {(split, place + (split == "train" and place >= 10)) for split, place in wrong}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    backbone = build_backbone("test_resnet", pretrained=False, image_size=32)
    MultiAttributeModel(backbone, ATTRIBUTES).save_pretrained(folder)
    return folder


def flags(uri, output, *more):
    return ["audit", "issues", str(uri), "--output", str(output), "--folds", "4", "--device", "cpu", *more]


@pytest.fixture(scope="module")
def listed(packed, model, tmp_path_factory):
    output = tmp_path_factory.mktemp("issues") / "out"
    assert main(flags(packed[0], output, "--model", str(model))) == 0
    return output, pq.read_table(output / "label_issues.parquet")


def test_the_wrong_labels_are_the_issues(packed, listed):
    _, table = listed
    assert table.schema.remove_metadata() == LABEL_ISSUES_SCHEMA
    names = {f"{split}/{place:05d}.jpg" for split, place in packed[1]}
    for attribute in ("bright", "guess"):
        rows = [row for row in table.to_pylist() if row["attribute"] == attribute]
        assert {row["image_id"] for row in rows[: len(names)]} == names
        # Of labels that are all as doubtful, confident learning's mean takes the more doubtful half.
        assert set() < {row["image_id"] for row in rows if row["is_issue"]} <= names
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        assert [row["doubt"] for row in rows] == sorted((row["doubt"] for row in rows), reverse=True)
        assert all(row["suggested"] == 1 - row["label"] for row in rows)
        for row in rows:
            yes = row["score"]
            assert row["confidence"] == pytest.approx(yes if row["label"] else 1 - yes, abs=1e-6)
            assert row["margin"] == pytest.approx(2 * row["confidence"] - 1, abs=1e-6)


def test_the_teachers_score_is_a_voice(listed):
    for row in listed[1].to_pylist():
        heads = (1 - row["margin"]) / 2
        if row["attribute"] == "bright":
            assert row["teacher"] is None
            assert row["doubt"] == pytest.approx(heads)
        else:
            assert row["teacher"] == pytest.approx(0.9 if row["label"] else 0.95)
            assert row["doubt"] == pytest.approx((heads + 1 - row["teacher"]) / 2)


def test_a_row_says_where_its_image_is(listed):
    from hashlib import sha256

    for row in listed[1].to_pylist():
        file = pq.read_table(row["uri"], columns=["image", "row"])
        assert sha256(file["image"][row["source_row"]].as_py()).hexdigest() == row["sha256"]
        assert file["row"][row["source_row"]].as_py() == row["row"]


def test_the_file_says_what_it_was_made_of(packed, listed):
    provenance = read_provenance(listed[1].schema)
    assert provenance["schema_version"] == 1
    assert provenance["packed"] == packed[0]
    assert (provenance["folds"], provenance["seed"]) == (4, 0)


def test_features_are_computed_once(packed, listed, model, capsys):
    output, table = listed
    parts = {path: path.stat().st_mtime_ns for path in output.rglob("part-*.arrow")}
    assert len(parts) == 3
    assert main(flags(packed[0], output, "--model", str(model))) == 2
    assert "has a label_issues.parquet already" in capsys.readouterr().err
    (output / "label_issues.parquet").rename(output / "first.parquet")
    assert main(flags(packed[0], output, "--model", str(model), "--attributes", "bright")) == 0
    shown = capsys.readouterr().out
    assert " issues among 159 labels" in shown
    assert {path: path.stat().st_mtime_ns for path in output.rglob("part-*.arrow")} == parts
    again = pq.read_table(output / "label_issues.parquet")
    (output / "first.parquet").rename(output / "label_issues.parquet")
    first = [row["image_id"] for row in table.to_pylist() if row["attribute"] == "bright"]
    assert [row["image_id"] for row in again.to_pylist()] == first


def test_what_cannot_be_judged_is_said(packed, model, tmp_path, capsys):
    assert main(flags(packed[0], tmp_path / "out", "--model", str(model))) == 0
    shown = capsys.readouterr().out
    assert "age: not judged, its labels are years" in shown
    assert "rare: not judged, fewer than two of its classes have at least 4 labels" in shown


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--attributes", "brigth"], "the packed run has no 'brigth'; did you mean 'bright'?"),
        (["--batch-size", "0"], "--batch-size: expected 1 or more, found 0"),
        (["--attributes", "bright", "bright"], "'bright' is given twice"),
    ],
)
def test_refusals(packed, tmp_path, more, text, capsys):
    assert main(flags(packed[0], tmp_path / "out", *more)) == 2
    assert text in capsys.readouterr().err


def test_a_rule_is_evaluated_on_the_other_labels():
    import pyarrow as pa

    rows = pa.table({"hat": pa.array([0, 1, None, 0], pa.int8()), "glasses": pa.array([0, None, 0, 1], pa.int8())})
    rule = DerivedAttribute(name="clear", rule="not (hat or glasses)")
    assert evaluate_rule(rule, rows).tolist() == [1, 0, -1, 0]
