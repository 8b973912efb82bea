"""The best model so far of a training: its files say that it is unfinished, and are never read in a mixture."""

import json
import shutil
from dataclasses import replace

import pytest
from safetensors import safe_open

from faceattr.config import StorageConfig
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ModelError
from faceattr.inference.build import build_predictor
from faceattr.jobs.train.worker import store_model
from faceattr.models import saved_config
from faceattr.models.inspect import inspect_saved_model
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.saved_config import UnfinishedModel, read_model_json, read_whole_model
from tests.models.tiny import build_model

SOME = UnfinishedModel(weights_id="a" * 32, epoch=3, num_epochs=30)


@pytest.fixture
def model():
    return build_model("vit", None).eval()


def metadata(folder):
    with safe_open(folder / "model.safetensors", framework="numpy") as file:
        return file.metadata()


def test_it_says_so_in_both_files_and_in_one_line(model, tmp_path, caplog):
    store_model(LocalStore(tmp_path), model, thresholds={"hat": 0.25}, unfinished=SOME)
    assert json.loads((tmp_path / "config.json").read_text())["unfinished"] == {
        "weights_id": "a" * 32,
        "epoch": 3,
        "num_epochs": 30,
    }
    assert metadata(tmp_path) == {"format": "pt", "weights_id": "a" * 32}
    found = MultiAttributeModel.from_pretrained(tmp_path)
    assert (found.unfinished, found.thresholds) == (SOME, {"hat": 0.25})
    assert model.thresholds == {}
    (line,) = caplog.messages
    assert "is unfinished: the best of its training so far, of epoch 3 of 30" in line
    caplog.clear()
    assert inspect_saved_model(tmp_path).unfinished == SOME
    assert len(caplog.messages) == 1


def test_a_finished_model_replaces_it_and_has_the_files_it_always_had(model, tmp_path, caplog):
    store_model(LocalStore(tmp_path / "a"), model, unfinished=SOME)
    store_model(LocalStore(tmp_path / "a"), model)
    model.save_pretrained(tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "unfinished" not in json.loads((tmp_path / "a" / "config.json").read_text())
    assert MultiAttributeModel.from_pretrained(tmp_path / "a").unfinished is None
    assert caplog.messages == []


def test_a_copy_of_it_says_so_too(model, tmp_path):
    store_model(LocalStore(tmp_path / "a"), model, unfinished=SOME)
    MultiAttributeModel.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert MultiAttributeModel.from_pretrained(tmp_path / "b").unfinished == SOME


@pytest.mark.parametrize("mixed", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("other", [None, replace(SOME, weights_id="b" * 32)])
def test_files_of_two_models_are_refused(model, tmp_path, monkeypatch, mixed, other):
    monkeypatch.setattr(saved_config, "_WAITS_S", ())
    store_model(LocalStore(tmp_path / "a"), model, unfinished=SOME)
    store_model(LocalStore(tmp_path / "b"), model, unfinished=other)
    shutil.copy(tmp_path / "b" / mixed, tmp_path / "a" / mixed)
    for read in (MultiAttributeModel.from_pretrained, inspect_saved_model):
        with pytest.raises(ModelError, match=r"belong to different models .* Run the training's command again"):
            read(tmp_path / "a")


@pytest.mark.parametrize("written", [1, 2])
def test_a_model_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch, written):
    """The writer gets as far as `written` files between the reader's config and weights, and later to its end."""
    monkeypatch.setattr(saved_config, "_WAITS_S", (0.0, 0.0))
    old, new = build_model("vit", None), build_model("vit", None)
    for parameter in new.parameters():
        parameter.data.zero_()
    store_model(LocalStore(tmp_path / "a"), old, thresholds={"hat": 0.25}, unfinished=SOME)
    store_model(
        LocalStore(tmp_path / "b"), new, thresholds={"hat": 0.75}, unfinished=replace(SOME, weights_id="b" * 32)
    )
    files = [tmp_path / "b" / name for name in ("model.safetensors", "config.json")]
    seen = []

    def read(folder):
        threshold = read_model_json(folder)["thresholds"]["hat"]
        for file in files[:written] if not seen else files:
            shutil.copy(file, folder.parent / f"{file.name}.partial")
            (folder.parent / f"{file.name}.partial").replace(folder / file.name)
        with safe_open(folder / "model.safetensors", framework="numpy") as weights:
            is_new = not any(weights.get_tensor(name).any() for name in weights.keys())  # noqa: SIM118 - no mapping
        seen.append((threshold, is_new))
        return seen[-1]

    assert read_whole_model(lambda: tmp_path / "a", read) == (0.75, True)
    assert seen[0] == (0.25, True)  # the mixture, which nobody gets


def test_an_actor_refuses_a_model_that_was_replaced_after_the_driver_saw_it(model, tmp_path):
    store_model(LocalStore(tmp_path), model, unfinished=SOME)
    seen = inspect_saved_model(tmp_path)
    store_model(LocalStore(tmp_path), model)
    with pytest.raises(ModelError, match="this node has the model"):
        build_predictor(
            model=str(tmp_path),
            revision=None,
            weights_id=seen.weights_id,
            precision="float32",
            batch_size=4,
            threads=1,
            on_gpu=False,
            storage=StorageConfig(),
        )
