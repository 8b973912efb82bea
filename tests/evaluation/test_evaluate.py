"""Fitting on validation, judging test, groups, comparison, and the leak that is refused."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.evaluate import Criterion
from faceattr.data.sources.layouts.label_list import ListLayout
from faceattr.errors import ConfigError, RunError
from faceattr.evaluation.evaluate import Fitted, compare, evaluate, fit_on_validation
from faceattr.evaluation.groups import compute_group_tables, read_groups
from faceattr.evaluation.judged import check_disjoint
from faceattr.evaluation.thresholds import choose_threshold
from faceattr.reports.tables.metrics import build_metrics
from faceattr.reports.tables.performance import write_performance_report
from faceattr.reports.tables.submissions import write_label_lines, write_submission
from tests.evaluation import judged_rows

GENDER = Attribute(name="gender", kind="multiclass", classes=("Male", "Female"))
ATTRIBUTES = AttributeSet(attributes=(judged_rows.BINARY, GENDER, judged_rows.AGE, judged_rows.PERSON))


def scored(num, *, seed, first_row=0, sharp=3.0) -> pa.Table:
    """A scored table of all kinds; some labels are unknown."""
    hat, age, person = judged_rows.binary(num, seed=seed), judged_rows.ages(num, seed=seed), judged_rows.persons(num)
    rng = np.random.default_rng(seed + 100)
    gender = rng.integers(0, 2, num)
    logits = np.stack([1.5 - 3 * gender, np.zeros(num)], 1) + rng.normal(0, 1, (num, 2))
    known = np.arange(num) % 7 != 0
    rows = np.arange(first_row, first_row + num)
    return pa.table(
        {
            "run": pa.array(np.zeros(num), pa.int32()),
            "row": pa.array(rows),
            "image_id": [f"{row:05d}.jpg" for row in rows],
            "sha256": [f"hash of {row}" for row in rows],
            "hat": pa.array(hat.labels, pa.int8(), mask=~known),
            "gender": pa.array(gender, pa.int16()),
            "age_low": pa.array(age.labels[:, 0], pa.float32()),
            "age_high": pa.array(age.labels[:, 1], pa.float32()),
            "person": pa.array(person.labels, pa.int32()),
            "output_hat": pa.array(sharp * hat.outputs, pa.float32()),
            "output_gender": pa.array(logits.tolist(), pa.list_(pa.float32(), 2)),
            "output_age": pa.array(age.predictions, pa.float32()),
            "output_person": pa.array(person.outputs.tolist(), pa.list_(pa.int32(), 5)),
            "certainty_person": pa.array(person.scores, pa.float32()),
        }
    )


@pytest.fixture(scope="module")
def validation():
    return scored(800, seed=1)


@pytest.fixture(scope="module")
def held_out():
    return scored(600, seed=2, first_row=1_000)


NOTHING = Fitted(calibration={}, thresholds={})


def judge(table, fitted, **changes):
    settings = {"split": "test", "fit_table": None, "groups": {}, "min_group": 20, "resamples": 200, "seed": 0}
    return evaluate(table, ATTRIBUTES, fitted, **{**settings, **changes})


def test_thresholds_and_calibration_come_from_validation_alone(validation, held_out):
    fitted = fit_on_validation(
        validation, ATTRIBUTES, method="temperature", criterion=Criterion(name="f1"), stored=NOTHING
    )
    assert set(fitted.calibration) == {"hat", "gender"}
    assert fitted.calibration["hat"]["temperature"] > 1.5  # the logits are three times too sure
    known = np.arange(800) % 7 != 0
    labels = judged_rows.binary(800, seed=1).labels[known]
    logits = validation["output_hat"].to_numpy()[known] / fitted.calibration["hat"]["temperature"]
    scores = (1 / (1 + np.exp(-logits.astype(np.float32)))).astype(np.float64)
    wanted = choose_threshold(labels, scores, Criterion(name="f1"))
    assert fitted.thresholds == {"hat": pytest.approx(wanted, abs=1e-4)}

    result = judge(held_out, fitted, fit_table=validation)
    known = np.arange(600) % 7 != 0
    logits = held_out["output_hat"].to_numpy()[known] / fitted.calibration["hat"]["temperature"]
    said = 1 / (1 + np.exp(-logits)) >= fitted.thresholds["hat"]
    labels = judged_rows.binary(600, seed=2).labels[known]
    assert result.figures["hat"]["f1"].value == pytest.approx(f1_score(labels, said))
    assert result.figures["hat"]["f1"].count == known.sum()
    interval = result.intervals["hat"]["f1"]
    assert interval.low < f1_score(labels, said) < interval.high
    assert result.figures["hat"]["ece"].value < judge(held_out, NOTHING).figures["hat"]["ece"].value
    gender, person = result.figures["gender"]["accuracy"].value, result.figures["person"]["top1"].value
    assert result.figures["combined"]["score"].value == pytest.approx(0.3 * gender + 0.7 * person)


def test_a_stored_threshold_stays_and_moves_with_its_scores_where_none_is_chosen(validation):
    stored = Fitted(calibration={"hat": {"method": "temperature", "temperature": 3.0}}, thresholds={"hat": 0.123})
    kept = fit_on_validation(validation, ATTRIBUTES, method="none", criterion=None, stored=stored, keep=True)
    assert kept.thresholds == {"hat": 0.123}
    assert kept.calibration == stored.calibration
    few = fit_on_validation(
        validation.slice(0, 6), ATTRIBUTES, method="temperature", criterion=Criterion(), stored=stored
    )
    # No temperature fits six rows: log(0.123 / 0.877) = -1.96432, times 3 -5.89297, of which the sigmoid is 0.00275119.
    assert few.thresholds == {"hat": pytest.approx(0.00275119, rel=1e-4)}
    assert few.calibration == {}
    assert few.chosen == kept.chosen == frozenset()
    assert "hat: the model's own threshold 0.1230 is 0.0028 of the newly calibrated scores" in few.notes
    assert any(
        note.startswith("hat") and "no threshold chosen, which takes 5 rows of either label" in note
        for note in few.notes
    )


def test_a_planted_leak_is_refused_by_row_and_by_content(validation, held_out):
    judge(held_out, NOTHING, fit_table=validation)
    by_row = pa.concat_tables([held_out, validation.slice(5, 1)])
    with pytest.raises(RunError, match="1 rows are in test and in validation, such as row 5 of run 0"):
        judge(by_row, NOTHING, fit_table=validation)
    # The same picture under another name and number.
    copy = validation.slice(5, 1).set_column(1, "row", pa.array([9_999]))
    copy = copy.set_column(2, "image_id", pa.array(["copy.jpg"]))
    with pytest.raises(RunError, match=r"1 images of test are in validation too, byte for byte, such as copy\.jpg"):
        judge(pa.concat_tables([held_out, copy]), NOTHING, fit_table=validation)
    with pytest.raises(RunError, match="byte for byte"):
        check_disjoint(copy, validation, judged_name="test", others_name="train")


def test_groups_are_those_of_a_plain_loop(held_out):
    groups = read_groups(held_out, {each.name: each for each in ATTRIBUTES.attributes}, ["gender", "age"])
    result = judge(held_out, NOTHING, groups=groups, min_group=40)
    table = next(each for each in result.groups if (each.attribute, each.by) == ("hat", "gender"))
    judged = result.judged["hat"]
    assert [each.by for each in result.groups if each.attribute == "gender"] == ["age"]  # not by its own classes
    of_row = groups["gender"][judged.rows]
    for place, name in enumerate(table.groups):
        mine = of_row == name
        assert table.counts[place] == mine.sum()
        found = dict(zip(table.figures, table.values[place], strict=True))
        assert found["recall"] == pytest.approx(recall_score(judged.labels[mine], judged.predictions[mine]))
        assert found["selection_rate"] == pytest.approx(judged.predictions[mine].mean())
        no = mine & (judged.labels == 0)
        assert found["false_positive_rate"] == pytest.approx(judged.predictions[no].mean())
    recalls = table.values[:, table.figures.index("recall")]
    assert table.gaps["recall"].value == pytest.approx(recalls.max() - recalls.min())

    crossed = next(each for each in result.groups if (each.attribute, each.by) == ("hat", "gender x age"))
    assert "Female x 20-29" in crossed.groups
    assert crossed.small.any()
    large = crossed.values[~crossed.small][:, 0]
    assert crossed.gaps["accuracy"].value == pytest.approx(
        large.max() - large.min() if len(large) > 1 else np.nan, nan_ok=True
    )
    metrics = build_metrics(result).to_pylist()
    row = next(each for each in metrics if each["group"] == "gender=Male" and each["name"] == "recall")
    assert row["value"] == pytest.approx(recalls[table.groups.index("Male")])


def test_groups_of_unknown_and_of_what_is_not_there(held_out):
    by_name = {each.name: each for each in ATTRIBUTES.attributes}
    groups = read_groups(held_out, by_name, ["hat"])
    assert set(groups["hat"]) == {"no", "yes", "unknown"}
    judged = judge(held_out, NOTHING).judged["gender"]
    (table,) = compute_group_tables(judged, groups, min_rows=1, resamples=100, seed=0)
    assert accuracy_score(judged.labels, judged.predictions) == pytest.approx(
        (table.values[:, 0] * table.counts).sum() / 600
    )
    for name in ("nothing", "person"):
        with pytest.raises(ConfigError, match=f"--group-by {name}: expected attributes of the data, hat, gender, age"):
            read_groups(held_out, by_name, [name])


def test_a_better_model_is_better_on_the_same_rows(held_out):
    first = judge(held_out, NOTHING)
    place = held_out.column_names.index("output_gender")
    gender = held_out["gender"].to_numpy()
    perfect = pa.array(np.stack([1 - gender, gender], 1).tolist(), pa.list_(pa.float32(), 2))
    second = judge(held_out.set_column(place, "output_gender", perfect), NOTHING)
    found = {(each.attribute, each.name): each for each in compare(first, second, resamples=200, seed=0)}
    better = found["gender", "accuracy"]
    assert better.second == 1.0
    assert 0 < better.interval.low < better.second - better.first < better.interval.high + 1e-9
    same = found["hat", "f1"]
    assert (same.first, same.interval.low, same.interval.high) == (same.second, 0.0, 0.0)


def test_the_text_report_holds_sklearns_report_and_the_figures(held_out):
    from sklearn.metrics import classification_report

    result = judge(held_out, Fitted(calibration={}, thresholds={"hat": 0.4}))
    text = write_performance_report(result, model="m", data=["d"], differences=[], compared=None)
    judged = result.judged["gender"]
    report = classification_report(judged.labels, judged.predictions, target_names=GENDER.classes, digits=4)
    for line in report.splitlines():
        assert line.rstrip() in text
    assert f"mae{result.figures['age']['mae'].value:>26.4f}" in text
    assert "threshold 0.4000" in text
    assert "COMBINED" in text


def test_without_a_label_nothing_is_judged(held_out):
    bare = held_out.filter(pa.array(np.arange(600) % 7 == 0)).drop_columns(["gender"])
    only = AttributeSet(attributes=(judged_rows.BINARY,))
    with pytest.raises(RunError, match="the split 'test' has no label of hat"):
        evaluate(bare, only, NOTHING, split="test", fit_table=None, groups={}, min_group=1, resamples=100, seed=0)


def test_outputs_that_are_no_numbers_are_refused(held_out):
    place = held_out.column_names.index("output_hat")
    broken = held_out.set_column(place, "output_hat", pa.array([float("nan")] * 600, pa.float32()))
    with pytest.raises(RunError, match="'hat': the model's outputs are not finite"):
        judge(broken, NOTHING)


# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [
        (ListLayout(delimiter=" ", header=(), columns=("image", "label"), no="0"), "a/1.jpg 1\nb 2.jpg 0\n"),
        (ListLayout(delimiter="", header=(), columns=("label",), no="-1"), "1\n-1\n"),
        (
            ListLayout(delimiter=",", header=("path", "label"), columns=("image", "label"), no="0"),
            "path,label\na/1.jpg,1\nb 2.jpg,0\n",
        ),
    ],
)
def test_labels_are_written_as_the_list_that_came_in(layout, wanted):
    found = write_label_lines(["b 2.jpg", "a/1.jpg"], {"label": np.array([0, 1])}, layout)
    assert found == wanted


def test_a_list_of_what_the_model_does_not_predict():
    layout = ListLayout(delimiter=",", header=(), columns=("image", "hat", "scarf"), no="0")
    with pytest.raises(ConfigError, match="the model does not predict scarf; it predicts hat"):
        write_label_lines(["a"], {"hat": np.array([1])}, layout)


def test_a_submission_names_gender_and_person():
    labels = {"gender": np.array([1, 0]), "person": np.array([3, 0])}
    assert write_submission(["x.jpg", "y.jpg"], ATTRIBUTES, labels) == (
        "filename,predicted_gender,predicted_identity\nx.jpg,Female,p3\ny.jpg,Male,p0\n"
    )
    assert write_submission(["x.jpg"], AttributeSet(attributes=(GENDER,)), labels) is None
