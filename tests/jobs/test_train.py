"""`pipelines/train.py` end to end on real Ray: one worker and two, S3 and local folders, what is refused."""

import csv
import io
import json
import runpy
from pathlib import Path

import huggingface_hub.constants
import pyarrow as pa
import pytest
import ray
import timm
import torch
from tensorboardX.proto.event_pb2 import Event

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.fit import OptimConfig, OptimSettings
from faceattr.config.train import FreezeConfig, ModelConfig, TrainConfig
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError
from faceattr.jobs.train.computation import count_stage_images, settle_training
from faceattr.jobs.train.run import begin_train_run, forget_untrained, prepare_train_job
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.history import read_history
from tests.jobs.train_data import AGE, ATTRIBUTES, HAT, TINY, coloured_row, numbered_row, write_coloured
from tests.packed_runs import write_packed_run

train = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "train.py"))["main"]
NUM_TRAIN, NUM_VAL = 200, 60
EPOCHS = 3
LEARN = [
    *("--optim.epochs", str(EPOCHS), "--optim.lr", "3e-3", "--feed.batch-size", "32", "--feed.block-rows", "32"),
    *("--augment.color", "0", "--augment.blur", "0"),
]


def refuse_ray(*args, **kwargs):
    pytest.fail("Ray was started")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("packed"), train=NUM_TRAIN, val=NUM_VAL)


def run(packed, output, *flags) -> int:
    return train(["--data", str(packed), "--output", str(output), *defaults_but(flags), *flags])


def defaults_but(flags):
    """The words of TINY and LEARN without those flags, whose values other ones take the place of."""
    given = {each.replace("no-", "") for each in flags if each.startswith("--")}
    kept, keeps = [], True
    for word in [*TINY, *LEARN]:
        if word.startswith("--"):
            keeps = word.replace("no-", "") not in given
        kept += [word] if keeps else []
    return kept


def comparable(record):
    kept = ("train/", "val/", "objective", "lr", "steps")
    return {name: value for name, value in record.items() if name.startswith(kept)}


@pytest.fixture(scope="module")
def alone(ray_local, packed, tmp_path_factory):
    """The folder of a training with one worker."""
    output = tmp_path_factory.mktemp("alone") / "model"
    assert run(packed, output) == 0
    return output


@pytest.mark.ray
@pytest.mark.slow
def test_a_model_folder(alone, packed, capsys):
    history = read_history(open_store(str(alone)))
    assert [record["epoch"] for record in history] == [0.0, 1.0, 2.0]
    assert history[-1]["val/loss"] < history[0]["val/loss"] < 3.2
    assert history[-1]["images"] == NUM_TRAIN // 32 * 32
    best = min(history, key=lambda record: record["val/loss"])

    model = MultiAttributeModel.from_pretrained(alone, expected=ATTRIBUTES)
    assert model.attributes == ATTRIBUTES
    weights = model.state_dict()
    assert all(tensor.isfinite().all() for tensor in weights.values())

    names = {path.name.partition(".")[0] for path in (alone / "checkpoints").iterdir()}
    assert names == {f"epoch-{EPOCHS:05d}", f"epoch-{int(best['epoch']) + 1:05d}"}
    rows = list(csv.DictReader(io.StringIO((alone / "metrics.csv").read_text())))
    assert [float(row["val/loss"]) for row in rows] == [record["val/loss"] for record in history]
    assert rows[0]["val/tone/coarse_accuracy"] == ""
    (listed,) = (alone / "splits").glob("train-*.csv")
    images = list(csv.DictReader(io.StringIO(listed.read_text())))
    assert len(images) == NUM_TRAIN
    assert images[0]["image_id"] == "train/00000.jpg"
    assert (alone / "training_metrics.png").read_bytes().startswith(b"\x89PNG")
    page = (alone / "report.html").read_text()
    assert all(word in page for word in ("tone", "macro_f1", "middle", "test_vit", "batch_size: 32"))
    record = json.loads((alone / "run.json").read_text())
    assert record["kind"] == "train"
    assert record["notes"]["seed"] == 42
    assert record["source"]["data"] == [str(packed)]
    assert scalars(alone / "tensorboard" / "events.out.tfevents.0.faceattr")["val/loss"] == pytest.approx(
        [record["val/loss"] for record in history]
    )

    capsys.readouterr()
    before = (alone / "model.safetensors").stat().st_mtime_ns
    assert run(packed, alone) == 0
    shown = capsys.readouterr().out
    assert "nothing to do: this model is trained" in shown
    assert f"the best is {int(best['epoch']) + 1}, with loss {best['val/loss']:.4f}" in shown
    assert (alone / "model.safetensors").stat().st_mtime_ns == before


def scalars(path):
    """Tag -> values, from the records of an event file: length, checksum, message, checksum."""
    data, found, place = path.read_bytes(), {}, 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 8], "little")
        event = Event.FromString(data[place + 12 : place + 12 + size])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append(value.simple_value)
        place += 16 + size
    return found


@pytest.mark.ray
@pytest.mark.long
def test_two_workers_learn_what_one_does(alone, packed, s3_uri):
    assert run(packed, s3_uri, "--workers.num-workers", "2") == 0
    store = open_store(s3_uri)
    for found, wanted in zip(read_history(store), read_history(open_store(str(alone))), strict=True):
        assert comparable(found) == pytest.approx(comparable(wanted), rel=2e-3, abs=2e-4, nan_ok=True)
        assert found["images"] == wanted["images"]


def test_another_config_into_the_same_folder_is_refused(packed, tmp_path, capsys):
    open_store(str(tmp_path)).put(
        "run.json",
        json.dumps(
            {
                "run_id": "r",
                "kind": "label",
                "fingerprint": {},
                "config": {},
                "plan": {"num_rows": 1, "num_bytes": 0, "shard_size": 1, "parts": []},
                "source": {},
                "carried": pa.schema([]).serialize().to_pybytes().hex(),
                "versions": {},
                "notes": {},
                "schema_version": 1,
            }
        ).encode(),
    )
    assert run(packed, tmp_path) == 2
    assert "holds a label run, not a train run: use another --output" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
def test_other_settings_for_a_folder_are_refused(alone, packed, capsys):
    assert run(packed, alone, "--loss.label-smoothing", "0.1") == 2
    assert "loss.label_smoothing: there 0.0, here 0.1" in capsys.readouterr().err


def test_a_folder_in_which_nothing_was_trained_takes_other_settings(packed, tmp_path):
    def job(lr):
        return prepare_train_job(TrainConfig(data=(str(packed),), output=str(tmp_path), optim=OptimConfig(lr=lr)))

    begin_train_run(job(1e-3))  # and then its weights could not be downloaded
    other = job(1e-2)
    forget_untrained(other)
    assert begin_train_run(other).fingerprint["optim"]["lr"] == 1e-2
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "epoch-00001.checkpoint.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"lr: there 0\.01, here 0\.001"):
        job(1e-3)
    forget_untrained(other)
    assert (tmp_path / "run.json").exists()


def test_a_begun_training_keeps_its_precision_and_a_new_one_records_that_of_its_devices(packed, tmp_path):
    def job(name, **optim):
        config = TrainConfig(data=(str(packed),), output=str(tmp_path / name), optim=OptimSettings(**optim))
        return settle_training(prepare_train_job(config))

    new = begin_train_run(job("new"))
    assert new.config["optim"]["precision"] == new.fingerprint["optim"]["precision"] == "float32"
    assert new.config["workers"]["compile"] == "off"
    assert new.notes["recipe"][-1] == "computation   float32 on CPUs (auto), not compiled (auto)"
    begun = begin_train_run(job("begun", precision="bfloat16"))
    (tmp_path / "begun" / "metrics.jsonl").write_text("{}")
    resumed = job("begun")
    assert resumed.config.fit.optim.precision == "bfloat16"
    assert begin_train_run(resumed) == begun
    with pytest.raises(ConfigError, match=r"optim\.precision: there 'bfloat16', here 'float32'"):
        job("begun", precision="float32")


@pytest.mark.parametrize(
    ("schedule", "head_epochs", "expected"), [("constant", 5, 3_000), ("two-stage", 7, 2_300), ("two-stage", 20, 2_000)]
)
def test_the_longest_stage_decides_whether_it_pays_to_compile(schedule, head_epochs, expected):
    config = TrainConfig(
        data=("packed",), output="out", freeze=FreezeConfig(schedule=schedule, head_epochs=head_epochs)
    )
    assert count_stage_images(config, 100) == expected


def test_a_run_begun_with_the_other_activation_is_not_gone_on_with(packed, tmp_path):
    config = TrainConfig(
        data=(str(packed),),
        output=str(tmp_path),
        model=ModelConfig(backbone="vit_base_patch32_clip_224.openai", image_size=64),
    )
    record = begin_train_run(prepare_train_job(config))
    assert record.fingerprint["backbone_with_quickgelu"] == "vit_base_patch32_clip_quickgelu_224.openai"
    # As versions wrote it that trained these weights with GELU.
    written = json.loads((tmp_path / "run.json").read_text())
    del written["fingerprint"]["backbone_with_quickgelu"]
    (tmp_path / "run.json").write_text(json.dumps(written))
    (tmp_path / "metrics.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match=r"there None, here 'vit_base_patch32_clip_quickgelu_224\.openai'"):
        prepare_train_job(config)


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--attributes", "hatt"], "--attributes: the data have no attribute 'hatt'; did you mean hat"),
        (["--feed.balance", "smile"], "--feed.balance: ['smile'] are none of the data's attributes"),
        (["--feed.batch-size", "201"], "--feed.batch-size 201: the training split has 200 images"),
        (["--preset", "clear_fase"], "--preset 'clear_fase': expected one of"),
        (["--model.args", "--optim.lr", "0"], "--optim.lr: expected more than 0, or auto, found 0.0"),
    ],
)
def test_wrong_commands_are_refused_without_a_cluster(packed, tmp_path, capsys, flags, problem):
    assert run(packed, tmp_path / "model", *flags) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_data_that_cannot_be_trained_on_are_refused(tmp_path, capsys):
    assert run(tmp_path / "nothing", tmp_path / "model") == 2
    assert "holds no packed run" in capsys.readouterr().err
    only = write_packed_run(
        tmp_path / "only",
        AttributeSet(attributes=(Attribute(name="hat"),)),
        {"train": [numbered_row(0)]},
        publish=False,
    )
    assert run(only, tmp_path / "model") == 2


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--model.backbone", "resnet51"], "timm {timm} has no such model; near names are"),
        (["--model.pretrained", "--model.args", "depth", "2"], "its pretrained weights"),
        (["--model.checkpoint", "./nowhere"], "no such folder"),
        (["--select.metric", "hat/f2"], "'hat/f2' is no figure of validation; near ones"),
        (["--select.metric", "tone/macro_f1"], "no validation image has a label of 'tone'"),
        (["--select.metric", "hat/auc"], "that defines it (found no 8, yes 0, unknown 0)"),
        (["--loss.main", "smile"], "--loss.main: ['smile'] are none of the model's attributes"),
        (["--loss.weights", "smile", "2"], "--loss.weights: ['smile'] are none of the model's attributes"),
        (["--loss.class-weighted", "smile"], "--loss.class-weighted: ['smile'] are none of the model's attributes"),
        (["--freeze.depth", "9"], "freeze depth 9: test_vit has 2 blocks"),
        (["--attributes", "hat", "age"], "no training image has a label of ['age']"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_config_and_counts_show_is_refused_before_ray_starts(
    sparse, tmp_path, capsys, monkeypatch, flags, problem, dry
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(ray, "init", refuse_ray)
    attributes = [] if "--attributes" in flags else ["--attributes", "hat", "tone"]
    assert run(sparse, tmp_path / "model", *attributes, *flags, *dry) == 2
    assert problem.format(timm=timm.__version__) in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_folder_that_is_not_there_is_refused_before_ray_starts(sparse, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(ray, "init", refuse_ray)
    words = [
        "--data",
        str(sparse),
        "--output",
        str(tmp_path / "model"),
        "--attributes",
        "hat",
        "--feed.batch-size",
        "16",
    ]
    assert train([*words, "--model.backbone", "hf:./nowhere"]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """Numbered images: tones and hats in training only, no age anywhere."""
    rows = {
        "train": [numbered_row(n, tone=n % 3) for n in range(40)],
        "val": [{**numbered_row(n), "hat": 0} for n in range(8)],
    }
    return write_packed_run(tmp_path_factory.mktemp("sparse"), ATTRIBUTES, rows)


@pytest.mark.ray
def test_a_refusal_after_ray_has_started_leaves_nothing_in_the_folder(ray_local, packed, tmp_path, capsys):
    # Known only of the cluster, when the lease is held.
    assert run(packed, tmp_path / "model", "--workers.num-workers", "16", "--workers.cpus-per-worker", "64") == 2
    assert "they claim" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not (tmp_path / "model" / "_lease").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_a_label_outside_its_range_is_refused_with_its_file(ray_local, tmp_path, capsys):
    rows = {
        "train": [numbered_row(n, age_low=200.0, age_high=201.0) for n in range(40)],
        "val": [numbered_row(n) for n in range(40)],
    }
    packed = write_packed_run(tmp_path / "packed", AttributeSet(attributes=(HAT, AGE)), rows)
    assert run(packed, tmp_path / "model") == 1
    shown = capsys.readouterr().err
    assert "column 'age': 200" in shown
    assert "split=train/shard-00000000.parquet" in shown


@pytest.mark.ray
@pytest.mark.long
def test_going_on_from_a_model(alone, tmp_path, capsys, ray_local):
    """Its heads stay where classes agree, a new attribute gets a new one, other classes are refused."""
    import numpy as np

    rng = np.random.default_rng(5)
    grown = AttributeSet(attributes=(*ATTRIBUTES.attributes, Attribute(name="smile")))
    rows = {split: [{**coloured_row(rng), "smile": n % 2} for n in range(40)] for split in ("train", "val")}
    packed = write_packed_run(tmp_path / "grown", grown, rows)
    flags = ("--model.checkpoint", str(alone), "--optim.epochs", "1", "--optim.lr", "1e-9")
    assert run(packed, tmp_path / "model", *flags) == 0
    old, new = (MultiAttributeModel.from_pretrained(path) for path in (alone, tmp_path / "model"))
    assert new.attributes == grown
    torch.testing.assert_close(new.head("tone").weight, old.head("tone").weight, atol=1e-6, rtol=0)
    assert new.head("smile").out_features == 1

    capsys.readouterr()
    turned = Attribute(name="tone", kind="multiclass", classes=("light", "middle", "dark"))
    rows = {split: [numbered_row(n, tone=0) for n in range(40)] for split in ("train", "val")}
    other = write_packed_run(tmp_path / "turned", AttributeSet(attributes=(turned,)), rows)
    assert run(other, tmp_path / "other", *flags) == 2
    assert "attribute 'tone' has 3 classes, expected 3; the first difference is at index 0" in capsys.readouterr().err
