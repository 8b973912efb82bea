"""Thresholds at the end of a training: the best cut on validation, by all ranks together, and the search's own."""

import runpy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import f1_score

from faceattr.attributes import AttributeSet
from faceattr.cli import parse_config
from faceattr.config.evaluate import Criterion
from faceattr.config.search import SearchConfig
from faceattr.config.train import TrainConfig
from faceattr.data.packed.reader import open_packed
from faceattr.errors import ConfigError
from faceattr.inference.predictor import Predictor
from faceattr.jobs.search import job as search_job
from faceattr.jobs.search import run as search
from faceattr.jobs.search.finish import finish_search
from faceattr.jobs.train.run import describe_network, prepare_train_job
from faceattr.jobs.train.thresholds import fit_thresholds
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.loop.forward import Forward
from faceattr.training.loop.ranks import Ranks
from tests.jobs.train_data import SIZE, TINY, write_coloured
from tests.models.tiny import build_model
from tests.training.toy import HAT, TONE, binary, build_toy, make_batch, split

train = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "train.py"))["main"]
CPU = torch.device("cpu")


class Threads:
    """A sum over threads, each of which is one rank."""

    def __init__(self, num):
        self._barrier = threading.Barrier(num)
        self._given = {}

    def reduce(self, rank):
        def add(tensor):
            self._given[rank] = tensor
            self._barrier.wait(10)
            total = torch.stack(list(self._given.values())).sum(0)
            self._barrier.wait(10)
            return total

        return add


def fit(model, batches, **ranks):
    forward = Forward(model.backbone.preprocessing, precision="float32", device=CPU)
    return fit_thresholds(model.eval(), batches, Criterion(), forward=forward, ranks=Ranks(device=CPU, **ranks))


def best_f1(labels, scores):
    """By trying every score as a cut."""
    return max(f1_score(labels, scores >= cut) for cut in scores)


def test_the_best_cut_of_all_ranks_together():
    model, batch = build_toy(), make_batch(60, 3)
    found = fit(model, [batch])
    with torch.no_grad():
        outputs = model(Forward(model.backbone.preprocessing, precision="float32", device=CPU).prepare(batch.inputs))
    known = batch.targets["hat"].known
    scores, labels = outputs["hat"][known, 0].sigmoid().numpy(), batch.targets["hat"].value[known].numpy()
    assert found.keys() == {"hat"}
    assert f1_score(labels, scores >= found["hat"]) == pytest.approx(best_f1(labels, scores))
    assert f1_score(labels, scores >= 0.5) < best_f1(labels, scores)  # or else the test would show nothing

    sums, of_ranks = Threads(3), {}
    parts = [[each] for each in split(batch, 41, 19)] + [[]]  # the last one validates nothing

    def run(rank):
        of_ranks[rank] = fit(model, parts[rank], reduce=sums.reduce(rank), rank=rank, world_size=3)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert of_ranks == {0: found, 1: found, 2: found}


def test_too_few_labels_of_a_kind_choose_nothing():
    batch = make_batch(6, 3)
    batch.targets["hat"] = binary([1, 0, 1, 1, None, 1])
    assert fit(build_toy(), [batch]) == {}


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_coloured(tmp_path_factory.mktemp("packed"), train=96, val=48)


def test_runs_of_earlier_versions_go_on_and_other_thresholds_are_other_runs(packed, tmp_path):
    def fingerprint(*flags):
        words = ["--data", packed, "--output", str(tmp_path / "m"), *TINY, *flags]
        return prepare_train_job(parse_config(TrainConfig, words)).fingerprint

    # What run.json of an earlier version holds has no word of thresholds.
    assert "thresholds" not in fingerprint()
    assert fingerprint("--thresholds.criterion", "keep") == fingerprint()
    assert fingerprint("--thresholds.criterion", "f1")["thresholds"]["criterion"] == "f1"


def test_what_a_further_training_does_not_keep_of_a_model_is_said(packed, tmp_path):
    attributes = AttributeSet(attributes=(HAT,))
    for name, fitted in (("plain", {}), ("cut", {"thresholds": {"hat": 0.25}, "calibration": {"hat": {"bias": 1.0}}})):
        build_model("resnet", tmp_path, attributes, **fitted).save_pretrained(tmp_path / name)

    def describe(name):
        words = ["--data", packed, "--output", str(tmp_path / "m"), "--attributes", "hat", "--ray.no-dashboard"]
        words += ["--model.checkpoint", str(tmp_path / name)]
        return describe_network(prepare_train_job(parse_config(TrainConfig, words)))

    assert "threshold of hat 0.25, calibration of hat; thresholds are 0.5 unless" in describe("cut")
    assert "not kept" not in describe("plain")


def begin_search(packed, folder, *flags, settings=()):
    (folder / "space.yaml").write_text("optim.lr: 0.01\nfreeze.depth: {choice: [all]}\n")
    network = [
        *("model.backbone=test_vit", "model.pretrained=false", f"model.image_size={SIZE}", "model.args={depth: '1'}"),
        *("augment.strength=0", "optim.epochs=2", "feed.batch_size=16", "attributes=[hat, tone]"),
    ]
    words = ["--data", packed, "--output", str(folder / "search"), "--space", str(folder / "space.yaml")]
    words += ["--num-samples", "1", "--cache", "off", "--set", *network, *settings, *flags]
    return search_job.prepare_search_job(parse_config(SearchConfig, words))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_training_from_best_yaml_ends_with_the_thresholds_of_the_search(packed, tmp_path, ray_local, capsys):
    job = begin_search(packed, tmp_path, "--objective.criterion", "youden")
    record = search_job.begin_search_run(job)
    plan = search.plan_search(job, search.survey_search(job))
    finish_search(job, record, plan, search.run_search(job, plan))
    best = MultiAttributeModel.from_pretrained(tmp_path / "search" / "best")
    settings = tmp_path / "search" / "best.yaml"
    assert yaml.safe_load(settings.read_text())["thresholds"]["criterion"] == "youden"

    assert train(["--config", str(settings), "--output", str(tmp_path / "model"), "--ray.no-dashboard"]) == 0
    model = MultiAttributeModel.from_pretrained(tmp_path / "model")
    assert model.attributes.names == (HAT.name, TONE.name)
    assert model.thresholds.keys() == best.thresholds.keys() == {"hat"}
    assert model.thresholds["hat"] != 0.5
    assert model.thresholds["hat"] == pytest.approx(best.thresholds["hat"], abs=1e-4)
    assert f"threshold of hat  {model.thresholds['hat']:.4f}, best youden on validation" in capsys.readouterr().out

    # Its own predictions are cut there.
    table = next(open_packed([packed]).iter_split("val", ["image"]))
    said = Predictor(model, device="cpu").predict(table["image"].to_pylist())
    scores = np.array([each["hat"].score for each in said])
    assert [each["hat"].label == "yes" for each in said] == (scores >= model.thresholds["hat"]).tolist()


def test_a_search_whose_trained_config_wants_another_criterion_is_refused(packed, tmp_path):
    with pytest.raises(ConfigError, match=r"thresholds\.criterion youden .* --objective\.criterion, which is f1"):
        begin_search(packed, tmp_path, settings=("thresholds.criterion=youden",))
    assert begin_search(packed, tmp_path, settings=("thresholds.criterion=f1",)).base.thresholds.criterion == "f1"
