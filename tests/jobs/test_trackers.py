"""Trackers with the real libraries, offline: what arrives, and what does not."""

import os
import subprocess
import sys

import pytest

from faceattr.config.train import TrainConfig
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError
from faceattr.jobs.trackers import tracked as module
from faceattr.jobs.trackers.tracked import TrackedRun, check_loggers, list_settings, tracked
from faceattr.jobs.train.progress import TrainProgress
from faceattr.training.history import write_history

SETTINGS = {"optim.lr": 0.001, "data": ["packed"], "loss.weights": {}}
RUN = TrackedRun(run_id="0123abcd", name="m1", group="s1", settings=SETTINGS)


@pytest.fixture
def mlflow_client(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    return mlflow.MlflowClient((tmp_path / "mlruns").as_uri())


def runs(client):
    experiment = client.get_experiment_by_name("faceattr")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])


def test_mlflow_gets_metrics_settings_and_the_state(mlflow_client):
    with tracked(["mlflow"], RUN) as log:
        log({"train/loss": 0.5, "val/hat/f1": float("nan"), "name": "text"}, 0)
        log({"train/loss": 0.25}, 1)
    (run,) = runs(mlflow_client)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "m1"
    assert run.data.params == {"optim.lr": "0.001", "data": "['packed']", "loss.weights": "{}"}
    history = mlflow_client.get_metric_history(run.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in history] == [(0, 0.5), (1, 0.25)]
    assert set(run.data.metrics) == {"train/loss"}


def test_a_new_store_of_mlflow_says_nothing(tmp_path):
    pytest.importorskip("mlflow")
    code = "from faceattr.jobs.trackers.to_mlflow import MlflowTracker; MlflowTracker()"
    variables = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "mlflow.db").exists()


def test_a_resumed_training_continues_its_run_and_a_failed_one_is_marked(mlflow_client, tmp_path):
    store = LocalStore(tmp_path / "model")
    epoch = {"train/loss": 0.5, "val/loss": 0.5, "objective": 0.5, "images_per_s": 1.0, "data_wait_share": 0.0}
    times = {"train_s": 1.0, "val_s": 1.0, "ended": 0.0}

    def train_and_stop():
        with tracked(["mlflow"], RUN) as log:
            progress = TrainProgress(store, log=log)
            write_history(store, [{"epoch": 0, **epoch, **times}])
            progress.update()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_and_stop()
    (run,) = runs(mlflow_client)
    assert run.info.status == "FAILED"

    with tracked(["mlflow"], RUN) as log:
        progress = TrainProgress(store, log=log)
        write_history(store, [{"epoch": 0, **epoch, **times}, {"epoch": 1, **epoch, **times, "train/loss": 0.25}])
        progress.update()
    (run,) = runs(mlflow_client)
    assert run.info.status == "FINISHED"
    history = mlflow_client.get_metric_history(run.info.run_id, "train/loss")
    assert {(each.step, each.value) for each in history} == {(0, 0.5), (1, 0.25)}


WANDB = """
from faceattr.jobs.trackers.tracked import TrackedRun, tracked
settings = {"optim.lr": 0.001, "data": ["packed"]}
with tracked(["wandb"], TrackedRun(run_id="0123abcd", name="m1", group="s1", settings=settings)) as log:
    log({"train/loss": 0.515625}, 0)
    log({"train/loss": 0.265625}, 1)
"""


def test_wandb_offline_has_metrics_and_settings_and_no_place_of_this_machine(tmp_path):
    pytest.importorskip("wandb")
    # Its service writes the file to its end when the process ends.
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_API_KEY": "k" * 40}
    ended = subprocess.run([sys.executable, "-c", WANDB], capture_output=True, text=True, check=True, env=env)
    assert (ended.stdout, ended.stderr) == ("", "")
    (path,) = tmp_path.glob("wandb/offline-run-*/run-0123abcd.wandb")
    data = path.read_bytes()
    for word in (b"train/loss", b"0.515625", b"0.265625", b"optim.lr", b"faceattr"):
        assert word in data, word
    for word in (str(tmp_path).encode(), os.getcwd().encode(), b"k" * 40):
        assert word not in data, word
    assert list(tmp_path.rglob("wandb-metadata.json")) == []  # host, command, folder


def test_settings_have_no_places(tmp_path):
    config = TrainConfig(data=(f"{tmp_path}/packed", "s3://bucket/packed/run1"), output=f"{tmp_path}/m1")
    settings = list_settings(config)
    assert settings["data"] == ["packed", "s3://bucket/packed/run1"]
    assert settings["optim.epochs"] == config.optim.epochs
    assert not any(name.startswith(("output", "storage", "ray", "loggers")) for name in settings)
    assert str(tmp_path) not in str(settings)


def test_a_missing_key_or_server_is_an_error_before_anything_starts(monkeypatch, tmp_path):
    # The library remembers a key, so that this is a process of its own.
    code = "from faceattr.jobs.trackers.tracked import check_loggers; check_loggers(['wandb'])"
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    env |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env)
    assert "ConfigError: --loggers wandb: there is no key" in ended.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    with pytest.raises(
        ConfigError, match="--loggers mlflow: cannot look for the experiment 'faceattr' at MLFLOW_TRACKING_URI"
    ):
        check_loggers(["mlflow"])


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'faceattr\[wandb\]'"):
        check_loggers(["wandb"])


def test_no_logger_opens_nothing():
    with tracked([], RUN) as log:
        log({"x": 1.0}, 0)
