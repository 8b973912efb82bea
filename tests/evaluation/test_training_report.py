"""Tables, pictures and the page of a training, from records written by hand."""

import csv
import io
import math

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config.overrides import override
from faceattr.config.train import TrainConfig
from faceattr.data.runs.plan import Plan
from faceattr.data.runs.version import RunRecord
from faceattr.jobs.train.progress import describe_epoch, describe_note
from faceattr.reports.plots.pictures import encode_picture
from faceattr.reports.plots.training import draw_labels, draw_training
from faceattr.reports.tables.training import describe_figures, encode_csv, figures_of
from faceattr.reports.training import render_training_report
from faceattr.training.loop.selection import find_best_epoch
from faceattr.training.metrics import Metrics

PERSON = Attribute(name="person", kind="identity", classes=tuple(f"p{n}" for n in range(30)))
RACE = Attribute(name="race", kind="multiclass", classes=("a", "<b>"))
AGE = Attribute(name="age", kind="age", classes=())
ATTRIBUTES = AttributeSet(attributes=(Attribute(name="hat"), RACE, AGE, PERSON))
COUNTS = {
    split: {"hat": [3.0, 1.0], "race": [2.0, 0.0], "age": [1.0] * 117, "person": [1.0] * 30}
    for split in ("train", "val")
}


def epoch_record(number, hat_f1, loss):
    values = {f"val/{name}": 0.25 for name in Metrics(ATTRIBUTES).finish()}
    values |= {"val/hat/f1": hat_f1, "val/hat/count": 1200.0, "val/age/mae": math.nan, "val/loss": loss}
    return {
        "epoch": float(number),
        "lr": 1e-3,
        "objective": loss,
        "train/loss": loss + 0.1,
        **values,
        "images": 640.0,
        "images_per_s": 320.0,
        "data_wait_share": 0.02,
        "train_s": 2.0,
        "val_s": 0.5,
        "ended": 1.7e9 + number,
    }


HISTORY = [epoch_record(0, 0.5, 1.0), epoch_record(1, 0.9, 0.4), epoch_record(2, 0.8, 0.6)]
SELECT = TrainConfig(data=("d",), output="o").select


def test_the_best_epoch_is_found_from_the_records():
    assert find_best_epoch(HISTORY, SELECT) == 1
    rising = override(TrainConfig(data=("d",), output="o"), {"select.metric": "hat/f1"}).select
    records = [{**record, "objective": record["val/hat/f1"]} for record in HISTORY]
    assert find_best_epoch(records, rising) == 1
    # A gain has to be larger than min_delta.
    slow = override(TrainConfig(data=("d",), output="o"), {"select.min_delta": 0.7}).select
    assert find_best_epoch(HISTORY, slow) == 0


def test_tables():
    assert figures_of(HISTORY[1], AGE) == {"rmse": 0.25, "within_5": 0.25, "range_accuracy": 0.25}
    lines = describe_figures(HISTORY[1], ATTRIBUTES).splitlines()
    assert lines[1].startswith("hat         1,200  accuracy 0.250  balanced_accuracy 0.250  f1 0.900")
    rows = list(csv.DictReader(io.StringIO(encode_csv(HISTORY).decode())))
    assert (rows[1]["val/hat/f1"], rows[1]["val/age/mae"], rows[2]["epoch"]) == ("0.9", "", "2.0")


def test_pictures_of_every_kind_of_attribute():
    assert encode_picture(draw_training(HISTORY, ATTRIBUTES, 1, "macro_f1"), "png").startswith(b"\x89PNG")
    for attribute in ATTRIBUTES.attributes:
        drawn = draw_labels(attribute, {split: counts[attribute.name] for split, counts in COUNTS.items()})
        assert b"<svg" in encode_picture(drawn, "svg")


def test_the_page():
    record = RunRecord(
        run_id="r" * 32,
        kind="train",
        fingerprint={},
        config={
            "model": {"backbone": "resnet18"},
            "seed": 1,
            "select": {"metric": "loss", "combine": {}},
            "data": ("d",),
        },
        plan=Plan(num_rows=0, num_bytes=0, shard_size=1, parts=()),
        source={"data": ["s3://b/<packed>"], "fingerprint": "f" * 64},
        carried="",
        versions={"torch": "2"},
        notes={},
    )
    page = render_training_report(record, ATTRIBUTES, HISTORY, COUNTS, best_epoch=1, objective="macro_f1")
    assert "s3://b/&lt;packed&gt;" in page
    assert "&lt;b&gt;" in page
    assert '<td>f1</td><td class="n">0.900</td>' in page
    assert "1,920</b>images seen" in page
    assert "256.0</b>images/s" in page
    assert "torch 2" in page
    assert "</b>macro_f1</div>" in page


def test_progress_lines():
    line = describe_epoch(HISTORY[1], HISTORY[:2], 5)
    assert line == (
        "epoch 2/5 · loss 0.5000 · val loss 0.4000 · objective 0.4000 · 320.0 images/s · data wait 2.0% · ETA 8s"
    )
    note = {"epoch": 1, "batch": 30, "num_batches": 120, "num_epochs": 5, "seconds": 20.0}
    assert describe_note({**note, "images_per_s": 1234.5, "world_size": 2}) == (
        "epoch 2/5 · batch 30/120 · 1,234.5 images/s · 2 workers · epoch ends in 1m 00s"
    )
