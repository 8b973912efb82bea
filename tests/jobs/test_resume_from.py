"""`pipelines/train.py --resume-from`: which checkpoint, which settings, what is kept, and what the advice says."""

import json
import math
import re
import runpy
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from faceattr.cli import parse_config
from faceattr.commands.status import describe_status
from faceattr.config.train import TrainConfig
from faceattr.data.runs.lease import hold_lease
from faceattr.data.runs.status import read_run_status
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError
from faceattr.jobs.train.run import begin_train_run, prepare_train_job
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.history import read_history, write_history
from faceattr.training.lineage.advice import advise_diverged
from faceattr.training.lineage.origin import read_origin
from faceattr.training.loop.checkpoints import store_checkpoint
from faceattr.training.loop.state import TrainingState
from faceattr.training.presets import PRESETS_FOLDER
from tests.jobs.train_data import ATTRIBUTES, TINY, write_coloured

train = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "train.py"))["main"]
LEARN = ["--optim.epochs", "8", "--optim.lr", "3e-3", "--optim.clip-norm", "None", "--feed.batch-size", "32"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("packed"), train=64, val=32)


def parse(*words) -> TrainConfig:
    return parse_config(TrainConfig, words, presets=PRESETS_FOLDER)


@pytest.fixture
def earlier(packed, tmp_path):
    """A training that stopped after its third epoch, of which the second is the best."""
    job = prepare_train_job(parse("--data", str(packed), "--output", str(tmp_path / "earlier"), *TINY, *LEARN))
    begin_train_run(job)
    for epoch in (1, 2, 3):
        put_epoch(job.output, epoch, losses=[0.5, 0.25, 0.375])
    return job.output


def put_epoch(store, epoch, *, losses):
    history = [
        {"epoch": float(number), "objective": loss, "train/loss": loss, "val/loss": loss}
        for number, loss in enumerate(losses[:epoch])
    ]
    best = min(range(epoch), key=lambda number: losses[number])
    state = TrainingState(
        fingerprint=f"of epoch {epoch}",
        epoch=epoch,
        num_steps=2 * epoch,
        model={},
        best={},
        optimizer={},
        schedule={},
        scaler={},
        weighting={},
        selection={"best_value": losses[best], "best_epoch": best, "num_stale": 0},
        history=history,
    )
    store_checkpoint(store, state)
    write_history(store, history)


def origin_of(earlier, tmp_path, *flags, name="new"):
    return prepare_train_job(parse("--resume-from", earlier.uri, "--output", str(tmp_path / name), *flags)).origin


def test_its_settings_are_those_of_the_earlier_training_but_for_what_is_given(earlier, packed, tmp_path):
    (tmp_path / "own.yaml").write_text("seed: 7\noptim:\n  weight_decay: 0.5\n")
    flags = ["--optim.lr", "1e-3", "--config", str(tmp_path / "own.yaml")]
    found = parse("--resume-from", earlier.uri, "--output", str(tmp_path / "new"), *flags)
    there = parse("--data", str(packed), "--output", "unused", *TINY, *LEARN)
    assert found.data == (str(packed),)
    assert found.model == replace(there.model, crop_fraction=1.0)  # as it was resolved
    assert (found.optim.epochs, found.optim.lr, found.optim.weight_decay, found.seed) == (8, 1e-3, 0.5, 7)
    assert found.optim.warmup_epochs != "auto"
    assert found.ray == there.ray
    assert (found.resume_from, found.output) == (earlier.uri, str(tmp_path / "new"))
    # A preset is nearer than the earlier training, and a file may name it.
    (tmp_path / "from.yaml").write_text(f"resume_from: {earlier.uri}\noutput: {tmp_path / 'new'}\npreset: clear_face\n")
    preset = parse("--config", str(tmp_path / "from.yaml"))
    assert preset.optim.epochs == 50
    assert preset.data == (str(packed),)


def test_a_setting_that_the_earlier_version_did_not_have_is_what_it_behaved_by(earlier, tmp_path):
    record = json.loads((tmp_path / "earlier" / "run.json").read_text())
    del record["config"]["loss"]["normalised"], record["config"]["thresholds"]
    (tmp_path / "earlier" / "run.json").write_text(json.dumps(record))
    found = parse("--resume-from", earlier.uri, "--output", str(tmp_path / "new"))
    assert (found.loss.normalised, found.thresholds.criterion) == ("all", "keep")


def test_the_last_good_checkpoint(earlier, tmp_path):
    found = origin_of(earlier, tmp_path)
    assert (found.epoch, found.fingerprint, found.uri) == (3, "of epoch 3", earlier.uri)
    assert found.run_id == json.loads((tmp_path / "earlier" / "run.json").read_text())["run_id"]
    assert origin_of(earlier, tmp_path, "--resume-at", "best").epoch == 2
    # One that was cut off does not count, nor one of an epoch whose losses were not finite.
    key = "checkpoints/epoch-00003.training.pt"
    whole = earlier.get(key)
    earlier.put(key, whole[:-1])
    assert origin_of(earlier, tmp_path).epoch == 2
    earlier.put(key, whole)
    write_history(earlier, [*read_history(earlier)[:2], {"epoch": 2.0, "train/loss": 0.5, "val/loss": math.nan}])
    assert origin_of(earlier, tmp_path).epoch == 2
    for entry in list(earlier.list("checkpoints/")):
        if "00002" in entry.key:
            earlier.delete(entry.key)
    with pytest.raises(ConfigError, match="holds no complete checkpoint of an epoch that did not diverge"):
        origin_of(earlier, tmp_path)


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ([], "best moments weighting scale"),
        (["--optim.lr", "1e-4", "--optim.clip-norm", "1", "--seed", "3", "--augment.strength", "0"],
         "best moments weighting scale"),
        (["--feed.batch-size", "16", "--optim.epochs", "20"], "best moments weighting scale"),
        (["--optim.precision", "bfloat16"], "best moments weighting"),
        (["--optim.name", "sgd"], "best weighting scale"),
        (["--freeze.depth", "1"], "best weighting scale"),
        (["--loss.weighting", "dwa"], "scale"),
        (["--loss.label-smoothing", "0.1"], "moments scale"),
        (["--select.metric", "hat/f1", "--loss.label-smoothing", "0.1"], "moments scale"),
        (["--select.patience", "3"], "best moments weighting scale"),
        (["--model.crop-fraction", "0.5"], "moments weighting scale"),
    ],
)  # fmt: skip
def test_what_is_kept_follows_from_what_changes(earlier, tmp_path, flags, kept):
    found = origin_of(earlier, tmp_path, *flags)
    assert [name for name, each in vars(found.kept).items() if each] == kept.split()


def test_a_loss_that_nobody_selects_by_does_not_unmake_the_best_epoch(packed, tmp_path):
    flags = ["--select.metric", "hat/f1"]
    job = prepare_train_job(parse("--data", str(packed), "--output", str(tmp_path / "by_f1"), *TINY, *LEARN, *flags))
    begin_train_run(job)
    put_epoch(job.output, 1, losses=[0.5])
    assert origin_of(job.output, tmp_path, "--loss.label-smoothing", "0.1").kept.best


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            ["--model.args", "depth", "2"],
            r"its network and attributes have to stay\..*\n  model\.args\.depth: there '1'",
        ),
        (["--attributes", "hat"], r"attributes: there \['hat', 'tone', 'age'\], here \['hat'\]"),
        (["--lora.rank", "2"], r"lora\.rank: there 0, here 2"),
        (["--optim.epochs", "3"], r"--optim\.epochs 3: 3 epochs are over in resume-from .* choose more"),
    ],
)
def test_what_does_not_fit_is_refused(earlier, tmp_path, flags, problem):
    with pytest.raises(ConfigError, match=f"(?s){problem}"):
        origin_of(earlier, tmp_path, *flags)


def test_other_folders_are_refused(earlier, packed, tmp_path):
    with pytest.raises(ConfigError, match=r"--resume-from .*: holds no run"):
        origin_of(LocalStore(tmp_path / "empty"), tmp_path)
    with pytest.raises(ConfigError, match="is the --output too"):
        origin_of(earlier, tmp_path, name="earlier")
    with hold_lease(earlier, on_lost=pytest.fail), pytest.raises(ConfigError, match="still trains it; stop it first"):
        origin_of(earlier, tmp_path)


def test_the_record_says_where_it_came_from_and_keeps_to_it(earlier, tmp_path):
    words = ["--resume-from", earlier.uri, "--output", str(tmp_path / "new"), "--optim.lr", "1e-3"]
    job = prepare_train_job(parse(*words))
    record = begin_train_run(job)
    assert read_origin(record) == job.origin
    note = record.notes["resumed_from"]
    assert (note["uri"], note["epoch"], note["fingerprint"]) == (earlier.uri, 3, "of epoch 3")
    assert note["changed"] == ["optim.lr: there 0.003, here 0.001"]
    assert record.notes["recipe"][-1].startswith(
        f"start         the checkpoint after epoch 3 of {earlier.uri}, with other"
    )
    assert f"start      after epoch 3 of {earlier.uri}" in describe_status("new", read_run_status(job.output))
    (tmp_path / "new" / "metrics.jsonl").write_text("{}")
    # The earlier one trains on meanwhile: the repeated command still starts from the checkpoint that was chosen.
    put_epoch(earlier, 4, losses=[0.5, 0.25, 0.375, 0.125])
    assert prepare_train_job(parse(*words)).origin == job.origin
    with pytest.raises(ConfigError, match=r"resumed_from: there .*, here None"):
        prepare_train_job(replace(job.config, resume_from=None))
    with pytest.raises(ConfigError, match=r"resumed_from\.fingerprint: there 'of epoch 3', here 'of epoch 4'"):
        prepare_train_job(replace(job.config, resume_at="best"))


def test_the_advice_is_a_command_that_can_be_run(earlier, packed, tmp_path):
    config = parse("--resume-from", earlier.uri, "--output", "unused")
    (tmp_path / "earlier-2").mkdir()
    (tmp_path / "earlier-2" / "something").write_text("")
    text = advise_diverged(replace(config, optim=replace(config.optim, precision="float16")), earlier)
    words = shlex.split(text.splitlines()[-1])
    assert words[:2] == ["faceattr", "train"]
    found = parse(*words[2:])
    assert (found.optim.lr, found.optim.clip_norm, found.optim.precision) == (1e-3, 1.0, "float32")
    assert found.output == str(tmp_path / "earlier-3")
    assert prepare_train_job(found).origin.epoch == 3

    text = advise_diverged(config, LocalStore(tmp_path / "empty"))
    assert text.endswith("Start again by the same command with --optim.lr 0.001 --optim.clip-norm 1")


@pytest.mark.ray
@pytest.mark.long
def test_a_training_that_diverges_says_how_to_go_on_and_that_works(ray_local, packed, tmp_path, capsys):
    # Heads learn for an epoch; then a rate at which a few steps overflow, unless gradients are clipped.
    stages = ["--freeze.schedule", "two-stage", "--freeze.head-epochs", "1", "--freeze.head-lr", "1e-3"]
    flags = ["--optim.epochs", "3", "--optim.name", "sgd", "--optim.lr", "1e4", "--optim.clip-norm", "None", *stages]
    words = ["--data", str(packed), "--output", str(tmp_path / "m"), *TINY, "--feed.batch-size", "8", *flags]
    assert train(words) == 1
    shown = capsys.readouterr().err
    assert re.search(r"error: epoch 1.* Training diverged: lower --optim\.lr", shown)
    status = describe_status("m", read_run_status(LocalStore(tmp_path / "m")))
    assert "state      stopped" in status
    assert "model      unfinished: the best so far, of epoch 1 of 3; it can be used" in status
    assert MultiAttributeModel.from_pretrained(tmp_path / "m").attributes == ATTRIBUTES

    (command,) = [line for line in shown.splitlines() if "--resume-from" in line]
    assert train(shlex.split(command)[2:]) == 0
    output = open_store(str(tmp_path / "m-2"))
    history = read_history(output)
    assert [record["epoch"] for record in history] == [0.0, 1.0, 2.0]
    assert history[0] == read_history(open_store(str(tmp_path / "m")))[0]
    record = json.loads(output.get("run.json"))
    assert record["notes"]["resumed_from"]["epoch"] == 1
    assert "optim.clip_norm: there None, here 1.0" in record["notes"]["resumed_from"]["changed"]
    assert MultiAttributeModel.from_pretrained(tmp_path / "m-2").unfinished is None
