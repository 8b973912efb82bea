"""Exported labels: no cell is a formula, a score that is no number is null, missing folders are made."""

import csv
import hashlib
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.cli import main as faceattr
from faceattr.data.exports import export_labels, write_conflicts
from faceattr.data.formats.csv_cells import neutralise, neutralise_table, restore
from faceattr.data.stores.open import open_store
from tests.label_runs import write_label_run

LINK = '=HYPERLINK("http://x.invalid","a").jpg'


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠"])
def test_what_a_spreadsheet_would_run_begins_with_an_apostrophe(first):
    for text in (f"{first}1+1", first, f"'{first}x", f"''{first}x"):
        assert neutralise(text) == f"'{text}"
        assert restore(neutralise(text)) == text


@pytest.mark.parametrize("value", ["a=b.jpg", "'quoted'", "'", "", "x-1", -0.25, -1, None, 3])
def test_other_cells_stay_as_they_are(value):
    assert neutralise(value) == value
    if isinstance(value, str):
        assert restore(value) == value


def test_a_table_is_neutralised_as_its_cells_are():
    texts = ["=x", "''-y", "plain", "'quoted", "", None, "a\n=b", "\tz", "＠w"]
    table = pa.table({"image_id": pa.array(texts, pa.string()), "age": [-1.0] * len(texts)})
    found = neutralise_table(table)
    assert found["image_id"].to_pylist() == [neutralise(text) for text in texts]
    assert found["age"].to_pylist() == [-1.0] * len(texts)
    assert found.schema == table.schema


@pytest.fixture
def run(tmp_path):
    rows = {
        LINK: (b"1", {"hat": 1, "hat_score": 0.75}),
        "-a.jpg": (b"2", {"hat": 0, "hat_score": 0.25}),
        "b.jpg": (b"3", {"hat": 0, "hat_score": 0.125}),
    }
    return write_label_run(tmp_path / "run", ["hat"], rows, root=tmp_path)


def with_scores_of_old_runs(store, scores):
    """Replaces the scores of a run of one shard by such as runs held before scores were checked."""
    manifest = json.loads(store.get("_manifest.json"))
    (file,) = manifest["files"]
    table = pq.read_table(io.BytesIO(store.get(file["key"])))
    scores = pa.array(scores, table.schema.field("hat_score").type)
    table = table.set_column(table.schema.get_field_index("hat_score"), table.schema.field("hat_score"), scores)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    data = buffer.getvalue()
    store.put(file["key"], data)
    file |= {"num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    store.put("_manifest.json", json.dumps(manifest).encode())


def test_names_in_a_csv_are_no_formulas(run, tmp_path):
    path = tmp_path / "labels.csv"
    export_labels(open_store(run), path, export_format="csv")
    found = list(csv.DictReader(path.open(newline="")))
    assert [row["image_path"] for row in found] == [f"'{LINK}", "'-a.jpg", "b.jpg"]
    assert [restore(row["image_path"]) for row in found] == [LINK, "-a.jpg", "b.jpg"]
    assert [row["hat"] for row in found] == ["1", "0", "0"]


def test_json_holds_null_for_a_score_that_is_no_number(run, tmp_path):
    with_scores_of_old_runs(open_store(run), [float("nan"), 0.25, float("inf")])
    path = tmp_path / "labels.json"
    export_labels(open_store(run), path, export_format="json", scores=True)

    def refuse(name):
        raise AssertionError(name)

    found = json.loads(path.read_text(), parse_constant=refuse)
    assert [(row["image_path"], row["hat_score"]) for row in found] == [(LINK, None), ("-a.jpg", 0.25), ("b.jpg", None)]


def test_conflicts_are_no_formulas_either(run, tmp_path):
    summary = export_labels(open_store(run), tmp_path / "x.csv", export_format="csv")
    summary.conflicts.append(("@x.jpg", "hat", 1, 0))
    write_conflicts(tmp_path / "c.csv", summary)
    assert (tmp_path / "c.csv").read_text().splitlines()[1] == "'@x.jpg,hat,1,0"


def test_a_missing_folder_is_made_and_a_file_in_its_way_is_one_line(run, tmp_path, capsys):
    target = tmp_path / "new" / "deep" / "labels.csv"
    assert faceattr(["export", "labels", run, "--output", str(target)]) == 0
    assert len(target.read_text().splitlines()) == 4
    assert [path.name for path in target.parent.iterdir()] == ["labels.csv"]
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    for blocked in (tmp_path / "file" / "labels.csv", tmp_path / "new"):
        assert faceattr(["export", "labels", run, "--output", str(blocked)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: --output {blocked}")
        assert len(error.splitlines()) == 1


def test_a_file_that_nobody_named_is_not_replaced(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["export", "labels", run]
    assert faceattr(command) == 0
    written = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text("mine")
    capsys.readouterr()
    assert faceattr(command) == 2
    assert capsys.readouterr().err == (
        "error: labels.csv is here already, and --output is not given; choose a name with --output\n"
    )
    assert (tmp_path / "labels.csv").read_text() == "mine"
    assert faceattr([*command, "--output", "labels.csv"]) == 0
    assert (tmp_path / "labels.csv").read_text() == written
