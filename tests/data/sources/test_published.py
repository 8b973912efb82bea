"""A published label run as a source: labels, scores, masses, rejected rows, and rows inside packed files."""

import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import commit_all
from faceattr.data.runs.plan import plan_schema, write_plan
from faceattr.data.runs.version import RunVersion
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError
from faceattr.vqa.questions import AskedAttribute, QuestionSet

HAIR = Attribute(name="hair", kind="multiclass", classes=("black", "fair", "red"))
QUESTIONS = QuestionSet(
    name="test",
    asked=(
        AskedAttribute(attribute=Attribute(name="hat"), questions=("hat?",), answers=("no", "yes"), inverted=(False,)),
        AskedAttribute(attribute=HAIR, questions=("hair?",), answers=HAIR.classes, inverted=(False,)),
    ),
    derived=(DerivedAttribute(name="bare", rule="not hat"),),
)
ROWS = [
    {
        "hat": 1,
        "hat_score": 0.75,
        "hat_mass": 0.5,
        "hair": 2,
        "hair_score": [0.0, 0.25, 0.75],
        "hair_mass": 1.0,
        "bare": 0,
    },
    {"hat": None, "hat_score": 0.5, "hat_mass": 0.5, "hair": 0, "hair_score": [1.0, 0.0, 0.0], "hair_mass": 1.0},
    {"status": "missing", "error": "gone"},
]


def publish(root, *, packed=False, finish=True):
    store = open_store(str(root))
    carried = pa.schema([pa.field("split", pa.string())])
    source_rows = [4, 5, 6] if packed else [None] * 3
    given = [
        {
            "image_id": f"{i}.jpg",
            "uri": f"/images/{i}.jpg",
            "source_row": source_rows[i],
            "split": ["train", "val", None][i],
        }
        for i in range(3)
    ]
    plan_rows = pa.Table.from_pylist(given, schema=plan_schema(list(carried)))
    record = open_run(
        store,
        kind="label",
        fingerprint={"questions": QUESTIONS.to_json()},
        config={},
        versions={},
        notes={},
        write_plan=lambda: (
            write_plan(store, [plan_rows], shard_size=1),
            {"kind": "packed" if packed else "prefix", "root": "/images", "bytes_column": None},
            carried,
        ),
    )
    if not finish:
        return str(root)
    version = RunVersion(store, record, label_schema(QUESTIONS.attributes, carried), retry_failed=False)
    rows = [{"row": i, "sha256": f"{i:064d}", "status": "ok", **given[i], **row} for i, row in enumerate(ROWS)]
    work = version.work()
    tables = [pa.Table.from_pylist(rows, schema=version.schema)]
    commit_all(version.committer(work), tables, on_rows=lambda table: None)
    version.publish(version.verify())
    return str(root)


def test_labels_scores_and_rejects(tmp_path):
    source = open_source("labels", publish(tmp_path))
    assert source.attributes == AttributeSet(attributes=(Attribute(name="hat"), HAIR, Attribute(name="bare")))
    assert source.scored == {"hat", "hair"}
    assert source.image_root == "/images"
    table, rejects = source.read_all()
    assert table.schema.equals(source.schema)
    assert table.to_pydict() == {
        "image_id": ["0.jpg", "1.jpg"],
        "uri": ["/images/0.jpg", "/images/1.jpg"],
        "source_row": [None, None],
        "sha256": ["0" * 64, f"{1:064d}"],
        "group": [None, None],
        "split": ["train", "val"],
        "hat": [1, None],
        "hat_score": [0.75, 0.5],
        "hat_mass": [0.5, 0.5],
        "hair": [2, 0],
        "hair_mask": [None, None],
        "hair_score": [[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]],
        "hair_mass": [1.0, 1.0],
        "bare": [0, None],
    }
    assert rejects.counts == {"missing": 1}
    assert (rejects.examples["missing"][0].text, rejects.examples["missing"][0].detail) == ("2.jpg", "gone")


def test_selection_and_rows_of_packed_files(tmp_path, monkeypatch):
    monkeypatch.setattr("faceattr.data.runs.plan.PART_ROWS", 1)  # so that the rows are in several parts of the plan
    source = open_source("labels", publish(tmp_path, packed=True), options=SourceOptions(attributes=("bare", "hat")))
    table, _ = source.read_all()
    assert table.column_names[6:] == ["bare", "hat", "hat_score", "hat_mass"]
    assert table["source_row"].to_pylist() == [4, 5]


def test_unfinished_and_absent_runs_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no label run"):
        open_source("labels", str(tmp_path))
    with pytest.raises(ConfigError, match="is not published yet; run its command again"):
        open_source("labels", publish(tmp_path, finish=False))
