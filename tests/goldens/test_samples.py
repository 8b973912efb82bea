"""Run folders that faceattr 0.1.0 left: each opens, the unfinished ones are finished, other settings are refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.cli import main as faceattr
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.version import read_published
from faceattr.models.multitask import MultiAttributeModel
from tests.goldens.bucket import GOLDENS, NUM_FACES, NUM_MANY, SAMPLES, open_sample, run
from tests.goldens.resume import FINISHED, UNFINISHED
from tests.goldens.scores import TOLERANCE

pytestmark = [pytest.mark.ray, pytest.mark.long]


def stored(name: str, key: str) -> bytes:
    return (SAMPLES / name / key).read_bytes()


def table_of(name: str) -> pa.Table:
    return pa.concat_tables(read_published(open_sample(name)))


def stored_table(name: str, pattern: str) -> pa.Table:
    paths = sorted((SAMPLES / name).glob(pattern))
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths])


@pytest.mark.parametrize("name", FINISHED)
def test_nothing_is_to_be_done_in_a_finished_run(resumed, name):
    assert resumed[name].code == 0
    # Before it, predictions that are compared with labels show the agreement.
    assert any(line.startswith("nothing to do") for line in resumed[name].text.splitlines())


@pytest.mark.parametrize("name", UNFINISHED)
def test_an_unfinished_run_is_finished(resumed, name):
    assert resumed[name].code == 0, resumed[name].text


def test_a_label_run_goes_on_behind_its_committed_shard(resumed):
    store = open_sample("labels_unfinished")
    (first,) = [path.relative_to(SAMPLES / "labels_unfinished") for path in SAMPLES.glob("labels_unfinished/labels/*")]
    assert store.get(first.as_posix()) == stored("labels_unfinished", first.as_posix())
    found = table_of("labels_unfinished")
    assert found["row"].to_pylist() == list(range(NUM_MANY))
    # The rows that were added show the faces that the published run labelled.
    labels = {row["image_id"]: row for row in stored_table("labels", "labels/*.parquet").to_pylist()}
    for row in found.slice(256).to_pylist():
        twin = labels[f"{row['row'] % NUM_FACES:03d}.jpg"]
        for name in ("hat", "glasses", "facial_hair", "label", "sha256", "status"):
            assert row[name] == twin[name]
        for name in ("hat", "glasses", "facial_hair"):
            for part in ("score", "mass"):
                assert row[f"{name}_{part}"] == pytest.approx(twin[f"{name}_{part}"], abs=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "labels",
            ["kind       label", "state      published", "rows       33 of 33 (100.0%)", "rejected   not_an_image 1"],
        ),
        ("labels_unfinished", ["state      stopped", "rows       256 of 300 (85.3%)", "rejected   none"]),
        ("packed", ["kind       pack", "state      published", "rows       32 of 32 (100.0%)"]),
        ("model", ["kind       train", "state      published", "epoch      2, the best of 2 and the model's, ended "]),
        ("model_unfinished", ["state      stopped", "epoch      1, ended "]),
        (
            "search_unfinished",
            ["kind       search", "state      stopped", "trials     2 over: 2 finished", "best       t000"],
        ),
        ("predictions", ["kind       prediction", "state      published", "rows       33 of 33 (100.0%)"]),
    ],
)
def test_the_status_of_a_sample(capsys, name, lines):
    assert faceattr(["status", str(SAMPLES / name)]) == 0
    shown = capsys.readouterr().out
    for line in lines:
        assert line in shown


def test_a_label_run_opens(placed):
    table = table_of("labels")
    assert len(table) == NUM_FACES + 1
    assert table.filter(pa.compute.not_equal(table["status"], "ok"))["status"].to_pylist() == ["not_an_image"]


def test_a_packed_run_opens_and_is_packed_to_its_end(resumed):
    data = open_packed([f"{GOLDENS}/packed"])
    assert data.attributes.names == ("hat", "glasses", "facial_hair", "label", "tone", "age", "person")
    assert {split: data.num_rows(split) for split in data.splits} == {"train": 14, "val": 7, "test": 11}
    assert table_of("packed_unfinished").equals(table_of("packed"))


def test_a_training_goes_on_behind_its_first_epoch(resumed):
    first, second = map(json.loads, open_sample("model_unfinished").get("metrics.jsonl").splitlines())
    (kept,) = map(json.loads, stored("model_unfinished", "metrics.jsonl").splitlines())
    assert {name: first[name] for name in kept} == kept
    # The sample that was trained in one go had the same data, seed and settings; random views have changed since.
    whole = json.loads(stored("model", "metrics.jsonl").splitlines()[1])
    losses = [name for name in whole if name.endswith("loss")]
    assert len(losses) == 16
    assert [second[name] for name in losses] == pytest.approx([whole[name] for name in losses], rel=5e-3)


def test_a_model_opens(placed):
    MultiAttributeModel.from_pretrained(SAMPLES / "model")


def read_weights_id(store, digest):
    return json.loads(store.get(f"features/{digest}/_features.json"))["key"]["weights_id"]


def test_a_search_goes_on_inside_its_third_trial(resumed):
    store = open_sample("search_unfinished")
    for number in (0, 1):
        key = f"trials/t{number:04d}/record.json"
        assert store.get(key) == stored("search_unfinished", key)
    record = json.loads(store.get("trials/t0002/record.json"))
    kept = json.loads(stored("search_unfinished", "trials/t0002/model/progress.json"))
    assert record["status"] in ("finished", "stopped")
    assert record["history"][: len(kept)] == [each["objective"] for each in kept]
    assert record["num_epochs"] > len(kept)
    # Random weights differ in their last bits between processors: on another one the cache of the sample is not used.
    caches = {entry.key.split("/")[1] for entry in store.list("features/")}
    weights = {read_weights_id(store, digest) for digest in caches}
    assert len(weights) == len(caches)
    computed = 21 * (len(caches) - 1)
    assert f"computed activations of {computed} images" in resumed["search_unfinished"].text


def test_predictions_are_published_as_they_were(resumed):
    assert table_of("predictions_unfinished").equals(stored_table("predictions", "predictions/*.parquet"))


def test_an_evaluation_judges_as_it_did(resumed):
    found = json.loads(open_sample("evaluation_unfinished").get("evaluation.json"))["figures"]
    wanted = json.loads(stored("evaluation", "evaluation.json"))["figures"]
    for one, other in zip(found, wanted, strict=True):
        assert {name: each for name, each in one.items() if not isinstance(each, float)} == {
            name: each for name, each in other.items() if not isinstance(each, float)
        }
        assert [one[name] for name in ("value", "low", "high") if one[name] is not None] == pytest.approx(
            [other[name] for name in ("value", "low", "high") if other[name] is not None], abs=1e-5
        )


@pytest.mark.parametrize(
    ("name", "flags", "problem"),
    [
        ("labels", ["--attributes", "celeba4"], "holds a run with other settings"),
        ("labels_unfinished", ["--attributes", "celeba4"], "holds a run with other settings"),
        ("packed", ["--splits.seed", "1"], "splits.seed: there 0, here 1"),
        ("model", ["--loss.label-smoothing", "0.1"], "loss.label_smoothing: there 0.0, here 0.1"),
        ("model_unfinished", ["--seed", "1"], "seed: there 42, here 1"),
        ("search_unfinished", ["--seed", "1"], "seed: there 0, here 1"),
        ("predictions", ["--precision", "bfloat16"], "precision: there 'float32', here 'bfloat16'"),
        ("evaluation", [], "holds files already, and nothing is overwritten"),
    ],
)
def test_other_settings_are_refused(placed, capsys, name, flags, problem):
    assert run(name, *flags) == 2
    assert problem in capsys.readouterr().err
