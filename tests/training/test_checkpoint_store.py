"""Checkpoints in a store: what stays, what counts, what a crash leaves."""

import torch

from faceattr.data.stores.local import LocalStore
from faceattr.training.loop.checkpoints import load_last_checkpoint, store_checkpoint
from faceattr.training.loop.state import TrainingState


def state(epoch, best_epoch):
    return TrainingState(
        fingerprint="f",
        epoch=epoch,
        num_steps=epoch * 10,
        model={"w": torch.full((2,), float(epoch))},
        best={"w": torch.full((2,), float(best_epoch + 1))},
        optimizer={},
        schedule={},
        scaler={},
        weighting={},
        selection={"best_value": 0.5, "best_epoch": best_epoch, "num_stale": 0},
        history=[{"epoch": float(number)} for number in range(epoch)],
    )


def epochs(store):
    return sorted({entry.key.split("/")[1].split(".")[0] for entry in store.list("checkpoints/")})


def test_the_last_and_the_best_stay(tmp_path):
    store = LocalStore(tmp_path)
    assert load_last_checkpoint(store) is None
    for epoch, best_epoch in ((1, 0), (2, 1), (3, 1), (4, 1)):
        store_checkpoint(store, state(epoch, best_epoch))
    assert epochs(store) == ["epoch-00002", "epoch-00004"]
    found = load_last_checkpoint(store)
    assert (found.epoch, found.num_steps, len(found.history)) == (4, 40, 4)
    assert found.model["w"].tolist() == [4.0, 4.0]
    assert found.best["w"].tolist() == [2.0, 2.0]


def test_one_that_was_not_written_to_its_end_does_not_count(tmp_path):
    store = LocalStore(tmp_path)
    store_checkpoint(store, state(1, 0))
    store_checkpoint(store, state(2, 0))
    store.delete("checkpoints/epoch-00002.checkpoint.json")
    assert load_last_checkpoint(store).epoch == 1
    # Written again after the crash, it replaces what was left.
    store_checkpoint(store, state(2, 0))
    assert load_last_checkpoint(store).epoch == 2


def test_a_damaged_one_is_passed_over(tmp_path, caplog):
    store = LocalStore(tmp_path)
    store_checkpoint(store, state(1, 0))
    store_checkpoint(store, state(2, 0))
    key = "checkpoints/epoch-00002.training.pt"
    store.put(key, store.get(key)[:-10])
    assert load_last_checkpoint(store).epoch == 1
    assert "checkpoint epoch=2 is skipped" in caplog.text


class CrashError(Exception):
    pass


class CrashingStore(LocalStore):
    """Dies before its n-th change."""

    left = 1_000

    def put(self, key, data):
        self._count()
        super().put(key, data)

    def delete(self, key):
        self._count()
        super().delete(key)

    def _count(self):
        self.left -= 1
        if self.left < 0:
            raise CrashError


def test_a_crash_at_any_point_leaves_a_checkpoint(tmp_path):
    points = 0
    while True:
        store = CrashingStore(tmp_path / str(points))
        store_checkpoint(store, state(1, 0))
        store_checkpoint(store, state(2, 1))
        store.left = points
        try:
            store_checkpoint(store, state(3, 2))
            break
        except CrashError:
            found = load_last_checkpoint(store)
            assert found.epoch in (2, 3)
            assert found.model["w"].tolist() == [float(found.epoch)] * 2
        points += 1
    # Four files written, four of the second epoch removed.
    assert points == 8
    assert epochs(store) == ["epoch-00003"]
