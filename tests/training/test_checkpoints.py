import json
import pickle

import pytest
import torch

from faceattr.errors import ConfigError, ModelError
from faceattr.training.loop.checkpoints import load_checkpoint, save_checkpoint
from faceattr.training.loop.state import TrainingState

STATE = TrainingState(
    fingerprint="f" * 64,
    epoch=3,
    num_steps=12,
    model={"weight": torch.arange(4.0), "count": torch.tensor(7)},
    best={"weight": torch.arange(4.0) + 1, "count": torch.tensor(5)},
    optimizer={
        "state": {0: {"step": torch.tensor(3.0)}},
        "param_groups": [{"lr": 0.1, "name": "heads", "betas": (0.9, 1)}],
    },
    schedule={"step": 12},
    scaler={},
    weighting={"module": {}},
    ema={"weight": torch.zeros(4)},
    selection={"best_value": 0.5, "best_epoch": 1, "num_stale": 1},
    history=[{"epoch": 0.0, "val/hat/auc": float("nan")}],
)


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / "c", STATE)
    return tmp_path / "c"


def test_a_state_comes_back(folder):
    found = load_checkpoint(folder, fingerprint=STATE.fingerprint)
    torch.testing.assert_close(dict(found.model), dict(STATE.model))
    torch.testing.assert_close(dict(found.best), dict(STATE.best))
    torch.testing.assert_close(dict(found.ema), dict(STATE.ema))
    assert (found.epoch, found.num_steps, found.selection) == (3, 12, STATE.selection)
    assert found.optimizer == STATE.optimizer
    assert repr(found.history) == repr(STATE.history)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["best.safetensors", "checkpoint.json", "model.safetensors", "training.pt"]


def test_another_config_and_an_occupied_folder_are_refused(folder):
    with pytest.raises(ConfigError, match="another config"):
        load_checkpoint(folder, fingerprint="0" * 64)
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        save_checkpoint(folder, STATE)


def test_incomplete_damaged_and_later_checkpoints_are_refused(folder):
    index = json.loads((folder / "checkpoint.json").read_text())
    (folder / "checkpoint.json").write_text(json.dumps(index | {"schema_version": 2}))
    with pytest.raises(ModelError, match="schema_version is 2"):
        load_checkpoint(folder)
    (folder / "checkpoint.json").write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        load_checkpoint(folder)
    (folder / "checkpoint.json").write_text(json.dumps(index))
    (folder / "training.pt").write_bytes((folder / "training.pt").read_bytes()[:-9])
    with pytest.raises(ModelError, match=r"training.pt: expected \d+ bytes"):
        load_checkpoint(folder)
    (folder / "checkpoint.json").unlink()
    with pytest.raises(ModelError, match="not written to its end"):
        load_checkpoint(folder)


def test_a_half_written_folder_is_written_again(folder):
    (folder / "checkpoint.json").unlink()
    save_checkpoint(folder, STATE)
    assert load_checkpoint(folder).epoch == 3


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint ran",))


def test_nothing_in_a_checkpoint_runs(folder):
    with (folder / "training.pt").open("wb") as file:
        pickle.dump(Bomb(), file, protocol=2)
    index = json.loads((folder / "checkpoint.json").read_text())
    index["size_bytes"]["training.pt"] = (folder / "training.pt").stat().st_size
    (folder / "checkpoint.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"training.pt: cannot be read"):
        load_checkpoint(folder)
