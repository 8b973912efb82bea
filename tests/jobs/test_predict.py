"""`pipelines/predict.py` end to end on real Ray and a real S3 server; expected values from the predictor itself."""

import csv
import re
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import expit, logit
from sklearn.metrics import cohen_kappa_score

from faceattr.attributes import Attribute, AttributeSet
from faceattr.cli import main as faceattr
from faceattr.config import PredictConfig
from faceattr.data.label_columns import AGE_LIMIT
from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.sources.layouts.published import read_label_run
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError, ImageError, RunError
from faceattr.evaluation.agreement import Agreement
from faceattr.inference.predictor import Predictor
from faceattr.jobs.images.predict import prepare_predict_job
from faceattr.jobs.images.run import begin_run
from tests.models.tiny import ATTRIBUTES, build_model

pytestmark = [pytest.mark.ray, pytest.mark.slow]
predict = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "predict.py"))["main"]
ONE_ACTOR = ["--workers.max-actors", "1", "--workers.gpus-per-actor", "1", "--workers.batch-size", "4"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    built = build_model("resnet", folder, ATTRIBUTES, thresholds={"hat": 0.45}).eval()
    built.save_pretrained(folder / "saved")
    return built, folder / "saved"


@pytest.fixture(scope="module")
def images():
    import io

    from PIL import Image

    rng = np.random.default_rng(7)
    found = {}
    for number in range(20):
        pixels = np.kron(rng.integers(0, 256, (3, 4, 3), np.uint8), np.ones((30, 20, 1), np.uint8))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        found[f"{'ab'[number % 2]}/{number:02d}.png"] = buffer.getvalue()
    return {**found, "b/html.jpg": b"<!DOCTYPE html>"}


def test_a_bucket_is_predicted_published_compared_and_can_teach(model, images, s3_uri, ray_local, capsys, tmp_path):
    built, folder = model
    raw = open_store(f"{s3_uri}/raw")
    for name, data in images.items():
        raw.put(name, data)
    command = ["--model", str(folder), "--images", f"{s3_uri}/raw/", "--max-error-share", "0.1", *ONE_ACTOR]
    assert predict([*command, "--output", f"{s3_uri}/run"]) == 0
    assert "predicted 20, rejected 1" in capsys.readouterr().out
    run = open_store(f"{s3_uri}/run")
    table = pa.concat_tables(read_published(run))
    rows = {row["image_id"]: row for row in table.to_pylist()}
    assert set(rows) == set(images)
    for name, found in zip(images, Predictor(built, device="cpu").predict(list(images.values())), strict=True):
        row = rows[name]
        if isinstance(found, ImageError):
            assert (row["status"], row["hat"], row["hat_score"], row["age"]) == ("not_an_image", None, None, None)
            continue
        assert row["status"] == "ok"
        assert row["hat"] == (found["hat"].label == "yes")
        assert row["hat_score"] == pytest.approx(found["hat"].score, abs=1e-5)
        assert row["age"] == pytest.approx(found["age"].label, abs=1e-3)
        assert ATTRIBUTES["age_group"].classes[row["age_group"]] == found["age_group"].label
        assert row["age_group_score"] == pytest.approx(list(found["age_group"].scores.values()), abs=1e-5)
        assert ATTRIBUTES["person"].classes[row["person"]] == found["person"].label
        assert row["bare"] == (found["bare"].label == "yes")
    assert b"Prediction run" in run.get("report.html")
    assert b"yes from 0.45<" in run.get("report.html")

    # What is published can be compared with its manifest, in object storage too.
    assert faceattr(["status", run.uri, "--verify"]) == 0
    (shard,) = [entry.key for entry in run.list("predictions/")]
    good = run.get(shard)
    run.put(shard, bytes([good[0] ^ 1]) + good[1:])
    assert faceattr(["status", run.uri, "--verify"]) == 1
    assert f"{shard} is damaged: its sha256 is" in capsys.readouterr().out
    with pytest.raises(RunError, match="is damaged"):
        list(read_published(run))
    run.put(shard, good)

    # The same command has nothing to do; another model into the same folder is refused.
    assert predict([*command, "--output", f"{s3_uri}/run"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    other = build_model("resnet", tmp_path, ATTRIBUTES)
    other.save_pretrained(tmp_path / "other")
    assert predict(["--model", str(tmp_path / "other"), *command[2:], "--output", f"{s3_uri}/run"]) == 2
    assert "weights: there" in capsys.readouterr().err

    # Predictions are labels for the next model.
    source = read_label_run(run)
    learnt, rejects = source.read_all()
    assert rejects.total == 1
    by_id = {row["image_id"]: row for row in learnt.to_pylist()}
    one = rows["a/00.png"]
    assert by_id["a/00.png"]["hat"] == one["hat"]
    # The model says yes from 0.45 on; who learns from it does from 0.5 on.
    assert by_id["a/00.png"]["hat_score"] == pytest.approx(expit(logit(one["hat_score"]) - logit(0.45)), abs=1e-6)
    assert by_id["a/00.png"]["age_low"] == min(int(one["age"]), AGE_LIMIT - 1)
    assert by_id["a/00.png"]["age_high"] == by_id["a/00.png"]["age_low"] + 1
    assert source.attributes["age_group"].classes == ("0-2", "3-9", "10-19")

    # With mirror images the scores are others, and the run says so.
    assert predict([*command, "--limit", "4", "--flip", "--output", f"{s3_uri}/mirrored"]) == 0
    assert "mean with mirror images" in capsys.readouterr().out
    mirrored = pa.concat_tables(read_published(open_store(f"{s3_uri}/mirrored"))).to_pylist()
    averaging = Predictor(built, device="cpu", flip=True)
    for row, found in zip(mirrored, averaging.predict([images[row["image_id"]] for row in mirrored]), strict=True):
        assert row["hat_score"] == pytest.approx(found["hat"].score, abs=1e-5)
        assert row["hat_score"] != pytest.approx(rows[row["image_id"]]["hat_score"], abs=1e-5)
    assert predict([*command, "--limit", "4", "--output", f"{s3_uri}/mirrored"]) == 2
    assert "flip: there True" in capsys.readouterr().err

    # A second run that is compared with the first: the same model agrees with itself.
    assert predict([*command, "--limit", "8", "--output", f"{s3_uri}/again", "--labels", f"{s3_uri}/run"]) == 0
    assert re.search(r"agreement with \S+/run\n  hat +100.0% of \d", capsys.readouterr().out)
    page = open_store(f"{s3_uri}/again").get("report.html").decode()
    assert "Agreement with other labels" in page
    assert page.count("100.0%") >= 3
    assert faceattr(["export", "labels", f"{s3_uri}/run", "--output", str(tmp_path / "out.csv")]) == 0
    assert (tmp_path / "out.csv").read_text().startswith("image_path,hat,clear,age_group,age,person,bare\n")
    named = tmp_path / "named.csv"
    assert faceattr(["export", "labels", f"{s3_uri}/run", "--class-names", "--scores", "--output", str(named)]) == 0
    exported = {row["image_path"]: row for row in csv.DictReader(named.open())}
    assert list(exported) == list(rows)
    classes = ("0-2", "3-9", "10-19")
    for name, row in rows.items():
        known = row["age_group"] is not None
        assert exported[name]["age_group"] == (classes[row["age_group"]] if known else "")
        for place, each in enumerate(classes):
            assert exported[name][f"age_group_score_{each}"] == (str(row["age_group_score"][place]) if known else "")
        assert exported[name]["hat_score"] == (str(row["hat_score"]) if known else "")


def test_agreement_is_sklearns():
    attributes = AttributeSet(attributes=(Attribute(name="hat"), Attribute(name="scarf")))
    rng = np.random.default_rng(1)
    theirs, mine = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    unknown = rng.random(200) < 0.2
    names = [f"{number}.jpg" for number in range(200)]
    agreement = Agreement(
        where="x",
        shared={"hat": attributes["hat"]},
        places={name: place for place, name in enumerate(names)},
        labels={"hat": np.where(unknown, -1, theirs)},
        counts={"hat": np.zeros((2, 2), np.int64)},
    )
    shuffled = rng.permutation(200)
    table = pa.table({"image_id": [names[each] for each in shuffled] + ["new.jpg"], "hat": [*mine[shuffled], 1]})
    agreement.observe(table.slice(0, 90))
    agreement.observe(table.slice(90))
    found = agreement.finish()["hat"]
    assert agreement.num_without == 1
    assert found.count == (~unknown).sum()
    assert found.agreement == pytest.approx((theirs == mine)[~unknown].mean())
    assert found.kappa == pytest.approx(cohen_kappa_score(theirs[~unknown], mine[~unknown]))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model", "{none}", "--images", "{photos}"], "no such folder"),
        (["--model", "{photos}", "--images", "{photos}"], "found no config.json"),
        (["--model", "{model}", "--images", "{empty}"], "found no image"),
        (["--model", "{model}", "--images", "{photos}", "--labels", "{empty}"], "expected a published label run"),
        (["--model", "{model}", "--images", "{photos}", "--limit", "0"], "--limit: expected 1 or more"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_starts(model, images, capsys, tmp_path, arguments, text):
    places = {name: tmp_path / name for name in ("none", "photos", "empty", "run")} | {"model": model[1]}
    for name in ("photos", "empty"):
        places[name].mkdir()
    (places["photos"] / "x.png").write_bytes(next(iter(images.values())))
    filled = [each.format(**places) for each in arguments]
    assert predict([*filled, "--output", str(places["run"])]) == 2
    assert text in capsys.readouterr().err
    assert read_manifest(LocalStore(places["run"])) is None


def test_a_begun_run_keeps_its_precision(model, images, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "face.png").write_bytes(images["a/00.png"])

    def prepare(**settings):
        return prepare_predict_job(
            PredictConfig(model=str(model[1]), images=str(tmp_path / "raw"), output=str(tmp_path / "out"), **settings)
        )

    begun = begin_run(prepare(precision="bfloat16"))
    with prepare().settled() as resumed:
        assert resumed.config.precision == "bfloat16"
        assert begin_run(resumed) == begun
    with pytest.raises(ConfigError, match="precision: there 'bfloat16', here 'float32'"):
        prepare(precision="float32")


def test_a_new_run_has_the_precision_of_the_clusters_devices(model, images, tmp_path, ray_local, caplog):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "face.png").write_bytes(images["a/00.png"])
    config = PredictConfig(model=str(model[1]), images=str(tmp_path / "raw"), output=str(tmp_path / "out"))
    with prepare_predict_job(config).settled() as job:  # the session's GPUs exist for Ray alone
        record = begin_run(job)
    assert record.fingerprint["precision"] == record.config["precision"] == "float32"
    assert "GPUs that nvidia-smi does not know" in caplog.text
