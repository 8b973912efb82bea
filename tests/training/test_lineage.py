"""A training that starts from the state of another one with other settings."""

import copy
import math

import pytest
import torch

from faceattr.config.fit import FitConfig, LossConfig, OptimConfig, SelectionConfig
from faceattr.errors import DivergedError, ModelError
from faceattr.models.schedules import Stage
from faceattr.training.loop.fit import fit
from faceattr.training.loop.ranks import Ranks
from faceattr.training.loop.state import Kept
from faceattr.training.targets import Batch
from tests.training.test_loop import COUNTS, VAL, assert_same_curve, epochs, optim, shuffled, train
from tests.training.toy import binary, build_toy

ALL = Kept(best=True, moments=True, weighting=True, scale=True)
NONE = Kept(best=False, moments=False, weighting=False, scale=False)


def states_of(config, **kwargs):
    """The result of a training, and number of finished epochs -> a copy of its state then."""
    states = {}

    def keep(record, state):
        states[state.epoch] = copy.deepcopy(state)  # the tensors of a state are those in use

    return train(build_toy(), config, report=keep, **kwargs), states


@pytest.mark.parametrize(
    "config",
    [
        FitConfig(optim=optim(epochs=4, ema_decay=0.9, schedule="plateau", plateau_patience=1, warmup_epochs=1)),
        FitConfig(loss=LossConfig(weighting="famo"), optim=optim(epochs=4, name="sgd")),
        FitConfig(loss=LossConfig(weighting="uncertainty"), optim=optim(epochs=4)),
    ],
    ids=["ema-plateau", "famo-sgd", "uncertainty"],
)
@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_with_the_same_settings_it_continues_the_curve(config, stopped_after):
    stages = [Stage(num_epochs=2, freeze_depth=1, lr=1e-2), Stage(num_epochs=2, freeze_depth=0, lr=5e-3)]
    wanted, states = states_of(config, stages=stages)
    found = train(build_toy(seed=7), config, stages=stages, origin=(states[stopped_after], ALL))
    assert_same_curve(found.history, wanted.history, rel=1e-5, abs=1e-6)
    assert found.best_epoch == wanted.best_epoch


def test_another_rate_is_that_of_its_own_schedule_at_that_place():
    _, states = states_of(FitConfig(optim=optim(epochs=4)))
    config = FitConfig(optim=optim(epochs=4, lr=1e-3, weight_decay=0.0, clip_norm=0.1))
    found = train(build_toy(), config, origin=(states[2], ALL))
    assert [record["epoch"] for record in found.history] == [0.0, 1.0, 2.0, 3.0]
    # The last step of the third epoch is the 18th of 24: 17 are over.
    assert found.history[2]["lr"] == pytest.approx(1e-3 * (0.01 + 0.99 * (1 + math.cos(math.pi * 17 / 24)) / 2))


def test_plateau_begins_with_the_share_of_the_rate_that_was_left():
    first, states = states_of(FitConfig(optim=optim(epochs=2, schedule="constant")))
    states[2].optimizer["param_groups"][0]["lr"] *= 0.25  # as two reductions leave it
    for group in states[2].optimizer["param_groups"][1:]:
        group["lr"] *= 0.25
    config = FitConfig(optim=optim(epochs=3, schedule="plateau", lr=4e-3))
    found = train(build_toy(), config, origin=(states[2], NONE))
    assert first.history[-1]["lr"] == 1e-2
    assert found.history[0]["lr"] == pytest.approx(1e-3)


def test_what_is_not_kept_begins_again():
    earlier, states = states_of(FitConfig(optim=optim(epochs=3)))
    config = FitConfig(optim=optim(epochs=5, name="sgd"), select=SelectionConfig(metric="hat/f1"))
    found = train(build_toy(), config, origin=(states[3], NONE))
    assert [record["epoch"] for record in found.history] == [3.0, 4.0]
    assert found.best_epoch in (3, 4)
    assert found.history[0]["val/loss"] == pytest.approx(earlier.history[-1]["val/loss"], rel=0.2)  # its weights


def test_a_moving_average_begins_with_the_weights():
    _, states = states_of(FitConfig(optim=optim(epochs=2)))
    seen = []
    config = FitConfig(optim=optim(epochs=3, ema_decay=0.5, lr=1e-9))
    train(build_toy(), config, origin=(states[2], NONE), report=lambda record, state: seen.append(copy.deepcopy(state)))
    for name, tensor in seen[0].ema.items():
        if tensor.is_floating_point() and "running" not in name:
            torch.testing.assert_close(tensor, states[2].model[name], rtol=0, atol=1e-6)


def test_patience_begins_again():
    config = FitConfig(optim=optim(epochs=9, lr=1e-9), select=SelectionConfig(patience=2, min_delta=0.5))
    wanted, states = states_of(config)
    assert len(wanted.history) == 3
    found = train(build_toy(), config, origin=(states[3], ALL))
    assert len(found.history) == 5


def test_another_network_is_refused():
    _, states = states_of(FitConfig(optim=optim(epochs=1)))
    del states[1].model["backbone.module.norm.weight"]
    with pytest.raises(ModelError, match="the checkpoint of the earlier training: the weights do not fit the model"):
        train(build_toy(), FitConfig(optim=optim(epochs=2)), origin=(states[1], ALL))


def test_a_validation_loss_that_is_not_finite_is_a_divergence_whatever_selects():
    bad = Batch(
        inputs=VAL[0].inputs,
        targets={**VAL[0].targets, "hat": binary([0] * len(VAL[0]), score=[math.inf] * len(VAL[0]))},
    )
    with pytest.raises(
        DivergedError, match=r"epoch 0: the validation loss of attribute 'hat' is (nan|inf|-inf)\. Training diverged"
    ):
        fit(
            build_toy(),
            epochs(shuffled, lambda: iter([bad])),
            FitConfig(optim=OptimConfig(epochs=2), select=SelectionConfig(metric="tone/macro_f1")),
            counts=COUNTS,
            ranks=Ranks(device=torch.device("cpu")),
        )


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_every_improvement_is_handed_over_before_its_checkpoint(ema_decay):
    told = []

    def improved(model, epoch, num_epochs):
        assert not model.training
        told.append((epoch, num_epochs, {name: each.clone() for name, each in model.state_dict().items()}))

    def report(record, state):
        told.append(state.epoch)
        if told[-2:-1] and isinstance(told[-2], tuple):
            for name, tensor in state.best.items():
                torch.testing.assert_close(told[-2][2][name], tensor, rtol=0, atol=0)

    # A rate that is too large makes some epochs worse.
    config = FitConfig(optim=optim(epochs=8, lr=0.3, schedule="constant", ema_decay=ema_decay))
    result = train(build_toy(), config, improved=improved, report=report)
    best, wanted = math.inf, []
    for number, record in enumerate(result.history, 1):
        if record["val/loss"] < best:
            best = record["val/loss"]
            wanted.append((number, 8))
        wanted.append(number)
    assert [each[:2] if isinstance(each, tuple) else each for each in told] == wanted
    assert sum(isinstance(each, tuple) for each in wanted) > 1
    assert sum(isinstance(each, int) for each in wanted) == 8


def test_the_best_epoch_of_the_origin_is_handed_over_first():
    config = FitConfig(optim=optim(epochs=3))
    _, states = states_of(config)
    told = []

    def improved(model, epoch, num_epochs):
        told.append((epoch, num_epochs))
        for name, tensor in states[2].best.items() if len(told) == 1 else ():
            torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)

    train(build_toy(seed=9), config, origin=(states[2], ALL), improved=improved)
    assert told[0] == (states[2].selection["best_epoch"] + 1, 3)
    told.clear()
    train(build_toy(seed=9), config, origin=(states[2], NONE), improved=lambda *args: told.append(args[1:]))
    assert told == [(3, 3)]


def test_without_a_callback_nothing_changes():
    config = FitConfig(optim=optim(epochs=3))
    with_it = train(build_toy(dropout=0.3), config, improved=lambda *args: None)
    assert_same_curve(with_it.history, train(build_toy(dropout=0.3), config).history)
