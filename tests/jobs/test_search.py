"""Searches on a real Ray session, over small packed runs."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
import torch
import yaml

from faceattr.cli import parse_config
from faceattr.config import StorageConfig
from faceattr.config.search import SearchConfig, StopConfig
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError
from faceattr.jobs.search import job as search_job
from faceattr.jobs.search import run as search
from faceattr.jobs.search.computation import settle_search
from faceattr.jobs.search.fill_cache import fill_features, plan_feature_tasks
from faceattr.jobs.search.finish import finish_search
from faceattr.jobs.search.inputs import open_inputs
from faceattr.jobs.search.trial import train_trial
from faceattr.jobs.search.tune import build_scheduler
from faceattr.jobs.train.feed import Feed
from faceattr.models.multitask import MultiAttributeModel
from faceattr.search.records import Judgement, TrialRecord, TrialReport, read_records
from faceattr.training.features.cache import features_uri, open_features
from faceattr.training.loop.ranks import Ranks
from tests.jobs.train_data import ATTRIBUTES, SIZE, coloured_row
from tests.packed_runs import write_packed_run

pytestmark = pytest.mark.ray
NETWORK = [
    *("model.backbone=test_vit", "model.pretrained=false", f"model.image_size={SIZE}", "model.args={depth: '2'}"),
    *("augment.strength=0", "optim.epochs=2", "feed.batch_size=16", "loss.main=hat"),
]
HEADS = "freeze.depth: all\noptim.lr: {loguniform: [1e-3, 1e-1]}\nloss.aux_weight: {uniform: [0, 1]}"
DEPTHS = "optim.lr: 0.01\nfreeze.depth: {choice: [1, 2, all]}\nloss.aux_weight: {uniform: [0, 1]}"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = {split: [coloured_row(rng) for _ in range(num)] for split, num in (("train", 70), ("val", 40), ("test", 30))}
    return write_packed_run(tmp_path_factory.mktemp("packed"), ATTRIBUTES, rows, shard_size=16)


def begin(packed, folder, space, *flags, settings=()):
    """A checked search with its labels read."""
    (folder / "space.yaml").write_text(space)
    words = ["--data", str(packed), "--output", str(folder / "out"), "--space", str(folder / "space.yaml")]
    given = {each.partition("=")[0] for each in settings}
    words += ["--set", *(each for each in NETWORK if each.partition("=")[0] not in given), *settings, *flags]
    job = settle_search(search_job.prepare_search_job(parse_config(SearchConfig, words)))
    record = search_job.begin_search_run(job)
    return job, record, search.plan_search(job, search.survey_search(job))


def run_all(job, record, plan):
    search.fill_caches(job, plan)
    trials = search.run_search(job, plan)
    return trials, finish_search(job, record, plan, trials, search.repeat_best(job, plan, trials))


def train_one(plan, values, number=0):
    reports = []
    train_trial(plan, number, values, reports.append, ranks=Ranks(device=CPU))
    last = TrialReport.decode(reports[-1]["report"])
    assert last.state == "over"
    return last.records[0], reports


@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_the_cache_holds_what_frozen_blocks_give_and_is_filled_once(packed, tmp_path):
    job, _, plan = begin(packed, tmp_path, DEPTHS, "--cache", "on")
    assert plan.caches.boundaries == (1, 3)
    assert search.fill_caches(job, plan) == 110
    assert search.fill_caches(job, plan) == 0
    (task,) = plan_feature_tasks(plan.source, plan.caches.boundaries, plain=True, num_views=0)
    # A part that is lost, with the manifest that named it, is computed again, and no other.
    folder = LocalStore(Path(features_uri(plan.output_uri, task.keys[1])))
    parts = {entry.key: entry.modified_s for entry in folder.list("split=")}
    folder.delete("_features.json")
    folder.delete("split=val/part-00000000.arrow")
    assert fill_features(plan.source, task, job.facts, gpus=0) == 40
    after = {entry.key: entry.modified_s for entry in folder.list("split=")}
    assert after.keys() == parts.keys()
    assert after["split=train/part-00000000.arrow"] == parts["split=train/part-00000000.arrow"]

    config = plan.config_of(0, {"freeze.depth": 1})
    model = plan.inputs.build_model(config)
    cached = open_inputs(plan, config, model)
    images = open_inputs(replace(plan, caches=replace(plan.caches, boundaries=())), config, model)
    assert isinstance(images.feed, Feed)
    assert (cached.boundary, images.boundary) == (1, None)
    suffix = cached.wrap(model.eval())
    prefix = torch.tensor(model.backbone.preprocessing.mean).view(3, 1, 1)
    deviation = torch.tensor(model.backbone.preprocessing.std).view(3, 1, 1)
    for epoch in (0, 1):
        pairs = list(zip(cached.feed.train_batches(epoch), images.feed.train_batches(epoch), strict=True))
        assert len(pairs) == cached.feed.num_batches == 4
        for one, other in pairs:
            for name, targets in other.targets.items():
                torch.testing.assert_close(one.targets[name].value, targets.value)
            with torch.no_grad():
                wanted = model((other.inputs.float() / 255 - prefix) / deviation)
                found = suffix(one.inputs)
            for name, output in wanted.items():
                torch.testing.assert_close(found[name], output, rtol=1e-4, atol=1e-4)
    images.feed.close()


@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("depth", [1, 2, "all"])
def test_a_trial_from_the_cache_is_that_from_images(packed, tmp_path, depth):
    job, _, plan = begin(packed, tmp_path, DEPTHS, "--cache", "on")
    search.fill_caches(job, plan)
    values = {"freeze.depth": depth, "loss.aux_weight": 0.3}
    found, _ = train_one(plan, values)
    wanted, _ = train_one(replace(plan, caches=replace(plan.caches, boundaries=(), notes=("off",))), values, 1)
    assert found.inputs.startswith("features before block")
    assert wanted.inputs == "images: off"
    assert found.best_epoch == wanted.best_epoch
    assert found.figures == pytest.approx(wanted.figures, rel=1e-3, abs=1e-3, nan_ok=True)
    assert found.judgement.by_attribute == pytest.approx(wanted.judgement.by_attribute, abs=1e-3)
    assert found.judgement.thresholds["hat"] == pytest.approx(wanted.judgement.thresholds["hat"], abs=1e-3)


@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_random_views_are_cached_and_differ(packed, tmp_path):
    job, _, plan = begin(packed, tmp_path, HEADS, "--features.views", "2", settings=["augment.strength=1"])
    assert search.fill_caches(job, plan) == 2 * 70 + 40
    tasks = plan_feature_tasks(plan.source, plan.caches.boundaries, plain=False, num_views=2)
    assert [task.splits for task in tasks] == [("val",), ("train",), ("train",)]
    first, second = (
        open_features(features_uri(plan.output_uri, task.keys[0]), StorageConfig())["train"].load()
        for task in tasks[1:]
    )
    assert not torch.allclose(first, second, atol=1e-3)
    found, _ = train_one(plan, {"optim.lr": 0.01, "loss.aux_weight": 0.5})
    assert found.inputs.startswith("features")


@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_a_trial_goes_on_from_its_checkpoint(packed, tmp_path):
    job, _, plan = begin(packed, tmp_path, HEADS, "--trials.checkpoint-s", "1e-9", settings=["optim.epochs=4"])
    search.fill_caches(job, plan)
    values = {"optim.lr": 0.03, "loss.aux_weight": 0.5}
    wanted, whole = train_one(plan, values)

    def stop(report):
        if report["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_trial(plan, 1, values, stop, ranks=Ranks(device=CPU))
    found, rest = train_one(plan, values, 1)
    assert [each["epoch"] for each in whole] == [1, 2, 3, 4]
    assert [each["epoch"] for each in rest] == [3, 4]
    assert found.judgement == wanted.judgement
    assert found.history == wanted.history
    assert {TrialReport.decode(each["report"]).records[0].status for each in whole[:-1]} == {"stopped"}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_a_search_of_heads_trains_them_as_one_stack(packed, s3_uri, tmp_path):
    job, record, plan = begin(packed, tmp_path, HEADS, "--num-samples", "6", "--algorithm", "random")
    trials, summary = run_all(job, record, plan)
    assert [trial.status for trial in trials] == ["finished"] * 6
    assert all(trial.stacked for trial in trials)
    best = max(trials, key=lambda each: each.judgement.objective)
    alone, _ = train_one(plan, best.values, 77)
    assert best.judgement.objective == pytest.approx(alone.judgement.objective, abs=1e-3)
    assert best.figures == pytest.approx(alone.figures, rel=1e-3, abs=1e-3, nan_ok=True)
    output = tmp_path / "out"
    model = MultiAttributeModel.from_pretrained(output / "best")
    assert model.thresholds == pytest.approx(best.judgement.thresholds)
    assert model.thresholds.keys() == {"hat"}
    table = pq.read_table(output / "trials.parquet")
    assert table["trial"].to_pylist() == [f"t{number:04d}" for number in range(6)]
    settings = yaml.safe_load((output / "best.yaml").read_text())
    assert settings["optim"]["lr"] == best.values["optim.lr"]
    assert "output" not in settings
    test = json.loads((output / "test.json").read_text())
    assert test["num_rows"] == 30
    assert "on test, once" in summary
    page = (output / "report.html").read_text()
    assert "parallel coordinates" in page
    assert best.name in page
    assert not re.search(r"<(script|link)", page)
    # But for trial 77, which this test trained by itself.
    assert {path.parts[-3] for path in output.glob("trials/*/model/*")} <= {"t0077"}
    assert list(output.glob("tensorboard/*/events*"))
    before = (output / "test.json").stat().st_mtime_ns
    assert finish_search(job, record, plan, search.run_search(job, plan)) == summary
    assert (output / "test.json").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_weak_trials_are_stopped_and_failing_ones_noted(packed, tmp_path):
    space = """
optim.epochs: 6
optim.clip_norm: null
freeze.depth: all
optim.lr: {choice: [3e-2, 1e-9]}
freeze.schedule: {choice: [constant, gradual]}
"""
    # This seed draws gradual, gradual, a good rate, gradual, and two rates that learn nothing.
    flags = ["--algorithm", "random", "--seed", "7", "--num-samples", "6", "--trials.stack", "off"]
    flags += ["--stop.grace-epochs", "1"]
    job, record, plan = begin(packed, tmp_path, space, *flags, "--trials.max-concurrent", "1", "--stop.reduction", "2")
    trials, _ = run_all(job, record, plan)
    failed = [trial for trial in trials if trial.status == "failed"]
    assert [trial.number for trial in failed] == [0, 1, 3]
    assert {trial.values["freeze.schedule"] for trial in failed} == {"gradual"}
    assert all("gradual unfreezing" in trial.error for trial in failed)
    stopped = [trial for trial in trials if trial.status == "stopped"]
    assert [trial.number for trial in stopped] == [4, 5]
    assert all(trial.num_epochs < 6 for trial in stopped)
    assert {trial.values["optim.lr"] for trial in stopped} == {1e-9}
    assert repr(read_records(job.output)) == repr(trials)  # as text, in which one NaN is like another
    assert ray.available_resources()["CPU"] >= 1.0


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_a_front_keeps_its_models_and_the_best_are_repeated(packed, tmp_path):
    flags = ["--num-samples", "6", "--algorithm", "random", "--objective.two"]
    flags += ["--repeat.top", "2", "--repeat.seeds", "2"]
    job, record, plan = begin(packed, tmp_path, HEADS, *flags)
    trials, summary = run_all(job, record, plan)
    output = tmp_path / "out"
    front = [each for each in trials if not any(beats(other, each) for other in trials)]
    assert {path.name for path in (output / "front").iterdir()} == {each.name for each in front}
    for each in front:
        model = MultiAttributeModel.from_pretrained(output / "front" / each.name)
        assert model.thresholds == pytest.approx(each.judgement.thresholds)
        settings = yaml.safe_load((output / "front" / each.name / "train.yaml").read_text())
        assert settings["optim"]["lr"] == each.values["optim.lr"]

    ranked = sorted(trials, key=lambda each: (-each.judgement.objective, each.number))[:2]
    repeats = {each.number: each for each in read_records(LocalStore(output / "repeats"))}
    assert sorted(repeats) == sorted(each.number for each in ranked)
    assert all(each.values["seed"] == 43 for each in repeats.values())
    means = {each.number: (each.judgement.objective + repeats[each.number].judgement.objective) / 2 for each in ranked}
    winner = max(means, key=means.get)
    assert json.loads((output / "best" / "trial.json").read_text())["trial"] == f"t{winner:04d}"
    assert f"best t{winner:04d}" in summary
    assert f"t{winner:04d}  mean {means[winner]:.4f} over 2 seeds" in summary
    page = (output / "report.html").read_text()
    assert "Repeated with other seeds" in page
    assert "resamples of the 40 validation images" in page
    # Repeated after its end, a search finds all that it needs in the folder, and trains nothing.
    assert run_all(job, record, plan)[1] == summary
    # Models of trials that may still win stay, others do not.
    assert {path.parts[-3] for path in output.glob("trials/*/model/*")} == {each.name for each in ranked}


def beats(one, other):
    pairs = [(each.judgement.objective, each.judgement.auxiliary) for each in (one, other)]
    return all(a >= b for a, b in zip(*pairs, strict=True)) and pairs[0] != pairs[1]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_halving_by_bounds_stops_what_learns_nothing(packed, tmp_path):
    space = "optim.epochs: 6\nfreeze.depth: all\noptim.lr: {choice: [3e-2, 1e-9]}"
    # This seed draws a good rate, two that learn nothing, and the good one again.
    flags = ["--algorithm", "random", "--seed", "1", "--num-samples", "4", "--trials.stack", "off"]
    flags += ["--trials.max-concurrent", "1", "--stop.rule", "bounds", "--stop.grace-epochs", "2"]
    job, record, plan = begin(packed, tmp_path, space, *flags)
    trials, _ = run_all(job, record, plan)
    for each in trials:
        assert len(each.bounds) == len(each.history)
        assert each.bounds[-1][0] <= each.history[-1] <= each.bounds[-1][1]
        assert len(each.judgement.draws) == 200
    assert [each.number for each in trials if each.status == "stopped"] == [1, 2]
    assert {each.num_epochs for each in trials if each.status == "stopped"} == {2}
    assert {each.values["optim.lr"] for each in trials[1:3]} == {1e-9}


def test_halving_remembers_the_trials_of_the_session_before():
    def past(number, objectives):
        judgement = Judgement(objective=0, auxiliary=None, by_attribute={}, thresholds={})
        return TrialRecord(number=number, values={}, status="finished", judgement=judgement, history=tuple(objectives))

    class Trial:
        trial_id = "new"

    # In the first epoch 0.4, 0.5 and 0.6: two thirds are below 0.533.
    records = [past(0, [0.5, 0.6, 0.7]), past(1, [0.6, 0.7, 0.8]), past(2, [0.4, 0.5, 0.6])]
    for objective, wanted in ((0.52, "STOP"), (0.55, "CONTINUE")):
        scheduler = build_scheduler(StopConfig(grace_epochs=1), num_epochs=9, records=records)
        scheduler.on_trial_add(None, Trial)
        assert scheduler.on_trial_result(None, Trial, {"epoch": 1, "objective": objective}) == wanted
    fresh = build_scheduler(StopConfig(grace_epochs=1), num_epochs=9)
    fresh.on_trial_add(None, Trial)
    assert fresh.on_trial_result(None, Trial, {"epoch": 1, "objective": 0.1}) == "CONTINUE"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--set", *NETWORK, "optim.lrr=1"], "did you mean 'optim.lr'"),
        (["--set", *NETWORK[:-1], "loss.main=gloves"], "['gloves'] are none"),
        (["--set", *NETWORK, "freeze.depth=99"], "freeze depth 99"),
        (["--train", "clear_fase"], "neither a .yaml file nor a preset"),
        (["--set", *NETWORK, "--space", "nowhere/none.yaml"], "no such text file"),
        (["--set", *NETWORK, "--objective.main", "gloves"], "gloves"),
    ],
)
def test_what_a_search_refuses(packed, tmp_path, flags, words):
    config = parse_config(SearchConfig, ["--data", str(packed), "--output", str(tmp_path / "out"), *flags])
    with pytest.raises(ConfigError, match=re.escape(words)):
        search_job.prepare_search_job(config)
    assert not (tmp_path / "out").exists()


def test_there_is_nothing_to_resume(tmp_path):
    with pytest.raises(ConfigError, match="there is no search"):
        search_job.prepare_search_job(SearchConfig(resume=str(tmp_path)))


def test_resuming_takes_all_from_the_folder(packed, tmp_path):
    (tmp_path / "space.yaml").write_text(HEADS)
    words = ["--data", str(packed), "--output", str(tmp_path / "out"), "--space", str(tmp_path / "space.yaml")]
    job = search_job.prepare_search_job(
        parse_config(SearchConfig, [*words, "--set", *NETWORK, "--num-samples", "5", "--objective.criterion", "youden"])
    )
    record = search_job.begin_search_run(job)
    (tmp_path / "space.yaml").unlink()
    again = search_job.prepare_search_job(SearchConfig(resume=str(tmp_path / "out"), num_samples=9))
    assert again.num_samples == 9
    assert again.base == job.base
    assert again.space.to_json() == job.space.to_json()
    assert again.config.objective == job.config.objective
    assert search_job.begin_search_run(again).run_id == record.run_id
    with pytest.raises(ConfigError, match="leave out --algorithm"):
        search_job.prepare_search_job(SearchConfig(resume=str(tmp_path / "out"), algorithm="random"))
    (tmp_path / "space.yaml").write_text(HEADS.replace("1e-1", "2e-1"))
    other = parse_config(SearchConfig, [*words, "--set", *NETWORK])
    with pytest.raises(ConfigError, match="other settings"):
        search_job.prepare_search_job(other)
