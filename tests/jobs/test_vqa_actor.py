"""Answers of more than 127 classes: from the model through the actor to the published file and its export."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.attributes import Attribute
from faceattr.config import StorageConfig
from faceattr.data.exports import export_labels
from faceattr.data.label_columns import label_schema
from faceattr.data.relabel import relabel
from faceattr.data.runs.begin import open_run
from faceattr.data.runs.commit import commit_all
from faceattr.data.runs.plan import plan_schema, write_plan
from faceattr.data.runs.run_attributes import Decision
from faceattr.data.runs.version import RunVersion
from faceattr.data.sources.layouts.published import open_labels
from faceattr.data.sources.options import SourceOptions
from faceattr.data.stores.open import open_store
from faceattr.jobs.cluster.pixel_column import pixels_to_arrow
from faceattr.jobs.images.actors.label_actor import VqaActor
from faceattr.reports.label import LabelStatistics
from faceattr.vqa.questions import AskedAttribute, QuestionSet

SIZE_PX = 2


class SureScorer:
    """Gives one answer nearly all probability: the one whose number stands in the image's first two bytes."""

    image_size_px = SIZE_PX

    def __init__(self, num_answers: int) -> None:
        self._num_answers = num_answers

    def score(self, images: np.ndarray) -> np.ndarray:
        likely = images[:, 0, 0, 0].astype(int) * 256 + images[:, 0, 0, 1]
        scores = np.full((len(images), self._num_answers), np.log(1e-6), np.float32)
        scores[np.arange(len(images)), likely] = np.log(0.9)
        return scores


def image_of(answer: int) -> np.ndarray:
    pixels = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    pixels[0, 0, :2] = divmod(answer, 256)
    return pixels


def label_by_answer(questions: QuestionSet, answers: list[int]) -> pa.Table:
    """Rows that the actor labels with the answers of these numbers."""
    facts = [
        {"row": place, "image_id": f"{place}", "uri": f"{place}", "source_row": None, "num_bytes": None, "status": "ok"}
        | {"error": None, "sha256": None, "width_px": 2, "height_px": 2}
        for place in range(len(answers))
    ]
    pixels = pixels_to_arrow(np.stack([image_of(answer) for answer in answers]))
    rows = pa.Table.from_pylist(facts).append_column("pixels", pixels)
    num_answers = len(questions.vqa_questions()[0].answers)
    return VqaActor(lambda: SureScorer(num_answers), questions, label_schema(questions.attributes))(rows)


@pytest.mark.parametrize(
    ("num_answers", "likely"), [(130, [129, 127, 128, 0]), (250, [249, 128, 200, 126]), (300, [299, 256])]
)
def test_a_late_class_keeps_its_number_and_its_name(tmp_path, num_answers, likely):
    classes = tuple(f"brand {index}" for index in range(num_answers))
    brand = Attribute(name="brand", kind="multiclass", classes=classes)
    asked = AskedAttribute(attribute=brand, questions=("which?",), answers=classes, inverted=(False,))
    questions = QuestionSet(name="test", asked=(asked,))
    store = open_store(str(tmp_path / "run"))
    planned = [{"image_id": f"{place}.jpg", "uri": f"{place}.jpg"} for place in range(len(likely))]
    record = open_run(
        store,
        kind="label",
        fingerprint={"questions": questions.to_json()},
        config={},
        versions={},
        notes={},
        write_plan=lambda: (
            write_plan(store, [pa.Table.from_pylist(planned, plan_schema())]),
            {"kind": "prefix", "root": str(tmp_path), "bytes_column": None},
            pa.schema([]),
        ),
    )
    version = RunVersion(store, record, label_schema(questions.attributes))
    actor = VqaActor(lambda: SureScorer(num_answers), questions, version.schema)
    facts = [
        {"row": place, **row, "status": "ok", "error": None, "sha256": None, "width_px": 2, "height_px": 2}
        for place, row in enumerate(planned)
    ]
    rows = pa.Table.from_pylist(facts).append_column(
        "pixels", pixels_to_arrow(np.stack([image_of(answer) for answer in likely]))
    )
    commit_all(version.committer(version.work()), [actor(rows)], on_rows=lambda rows: None)
    version.publish(version.verify())

    table = pq.read_table(tmp_path / "run" / "labels" / "shard-00000000.parquet")
    assert table["brand"].to_pylist() == likely
    assert [int(np.argmax(scores)) for scores in table["brand_score"].to_pylist()] == likely
    export_labels(store, tmp_path / "out.json", export_format="json", class_names=True)
    exported = json.loads((tmp_path / "out.json").read_text())
    assert [row["brand"] for row in exported] == [f"brand {answer}" for answer in likely]
    packed, rejects = open_labels(store.uri, SourceOptions(), StorageConfig()).read_all()
    assert packed["brand"].to_pylist() == likely
    assert not rejects.total


def test_a_model_without_a_mass_leaves_its_column_null_and_out_of_the_report():
    attribute = Attribute(name="hat")
    hat = AskedAttribute(attribute=attribute, questions=("hat?",), answers=("no", "yes"), inverted=(False,))
    questions = QuestionSet(name="test", asked=(hat,), has_mass=False)
    labelled = label_by_answer(questions, [0, 1])
    assert labelled["hat"].to_pylist() == [0, 1]
    assert labelled["hat_mass"].to_pylist() == [None, None]
    statistics = LabelStatistics(questions)
    statistics.observe(labelled)
    assert (statistics.num_labelled, statistics.mean_mass("hat")) == (2, None)


def test_an_unknown_answer_leaves_neither_label_nor_score_and_is_counted():
    hat = AskedAttribute(
        attribute=Attribute(name="hat"), questions=("hat?",), answers=("no", "yes"), inverted=(False,), unknown=("?",)
    )
    hair = AskedAttribute(
        attribute=Attribute(name="hair", kind="multiclass", classes=("short", "long")),
        questions=("hair?",),
        answers=("short", "long"),
        inverted=(False,),
        unknown=("cannot tell",),
    )
    for asked, values in ((hat, [0, 1, None]), (hair, [0, 1, None])):
        name = asked.attribute.name
        questions = QuestionSet(name="test", asked=(asked,))
        labelled = label_by_answer(questions, [0, 1, 2])
        assert labelled[name].to_pylist() == values
        assert [score is None for score in labelled[f"{name}_score"].to_pylist()] == [False, False, True]
        assert labelled[f"{name}_mass"].to_pylist() == pytest.approx([0.9, 0.9, 2e-6], rel=1e-3)
        # Labelled again by another threshold, what was unknown stays so.
        again = relabel(labelled, questions.attributes, {name: Decision(threshold=0.0)} if name == "hat" else {})
        assert again[name].null_count == 1
        statistics = LabelStatistics(questions)
        statistics.observe(labelled)
        assert (statistics.num_labelled, statistics.unknown[name], statistics.unanswered[name]) == (3, 1, 1)
        assert statistics.histograms[name].sum() == 2
