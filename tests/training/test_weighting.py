import copy
import math

import pytest
import torch

from faceattr.config.fit import LossConfig
from faceattr.training.loop.ranks import no_reduce
from faceattr.training.losses.weighting import LossWeighting

ALL = torch.tensor([True, True])


def build(name, weights=(1.0, 1.0), **kwargs):
    return LossWeighting(LossConfig(weighting=name, **kwargs), torch.tensor(weights))


def total(weighting, losses, present=ALL, *, reduce=no_reduce, world_size=1):
    return weighting(losses, present, reduce=reduce, world_size=world_size)


def test_constant_weights():
    weighting = build("constant", (0.7, 0.1))
    assert float(total(weighting, torch.tensor([2.0, 3.0]))) == pytest.approx(1.7)
    assert weighting.trained_parameters() == []


def test_uncertainty_by_hand():
    weighting = build("uncertainty")
    (log_variances,) = weighting.trained_parameters()
    with torch.no_grad():
        log_variances.copy_(torch.tensor([0.0, math.log(4)]))
    losses = torch.tensor([2.0, 8.0], requires_grad=True)
    value = total(weighting, losses)
    assert float(value.detach()) == pytest.approx(1 + 1 + math.log(4) / 2)
    value.backward()
    assert losses.grad.tolist() == pytest.approx([0.5, 0.125])
    # (1 - e^-s L) / 2
    assert log_variances.grad.tolist() == pytest.approx([-0.5, -0.5])


def test_dwa_turns_to_what_falls_slowly():
    weighting = build("dwa", dwa_temperature=1.0)
    for losses in ([4.0, 4.0], [2.0, 4.0]):
        total(weighting, torch.tensor(losses))
        weighting.end_epoch()
    # Ratios 1/2 and 1: weights 2 softmax(0.5, 1).
    wanted = 2 * torch.tensor([0.5, 1.0]).softmax(0)
    given = torch.tensor([1.0, 1.0], requires_grad=True)
    total(weighting, given).backward()
    torch.testing.assert_close(given.grad, wanted)


def test_famo_turns_to_what_falls_slowly():
    weighting = build("famo", weighting_lr=0.5)
    total(weighting, torch.tensor([1.0, 1.0]))
    weighting.update(torch.tensor([0.5, 0.9]), ALL, reduce=no_reduce)
    losses = torch.tensor([1.0, 1.0], requires_grad=True)
    total(weighting, losses).backward()
    assert losses.grad[1] > losses.grad[0] > 0
    torch.testing.assert_close(losses.grad.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("name", ["uncertainty", "famo", "dwa"])
def test_an_absent_attribute_counts_with_its_last_loss_and_no_gradient(name):
    weighting = build(name)
    total(weighting, torch.tensor([1.0, 0.5]))
    other = copy.deepcopy(weighting)
    absent, present = torch.tensor([1.0, 0.0], requires_grad=True), torch.tensor([1.0, 0.5], requires_grad=True)
    value = total(weighting, absent, torch.tensor([True, False]))
    wanted = total(other, present)
    torch.testing.assert_close(value, wanted)
    value.backward()
    wanted.backward()
    torch.testing.assert_close(absent.grad[0], present.grad[0])


@pytest.mark.parametrize("name", ["uncertainty", "famo", "dwa"])
def test_an_attribute_without_weight_is_left_out(name):
    weighting = build(name, (1.0, 0.0))
    losses = torch.tensor([1.0, 3.0], requires_grad=True)
    total(weighting, losses).backward()
    assert losses.grad[0] > 0
    assert losses.grad[1] == 0


@pytest.mark.parametrize("name", ["constant", "uncertainty", "famo", "dwa"])
def test_shares_of_two_ranks_give_the_gradients_of_one(name):
    one, two = build(name), build(name)
    losses = torch.tensor([0.6, 0.8], requires_grad=True)
    total(one, losses).backward()
    for mine, theirs in (([0.5, 0.2], [0.1, 0.6]), ([0.1, 0.6], [0.5, 0.2])):
        share, rest = torch.tensor(mine, requires_grad=True), torch.tensor(theirs).double()
        total(copy.deepcopy(two), share, reduce=lambda t, rest=rest: t + rest, world_size=2).backward()
        # DDP averages over ranks what is a sum of shares.
        torch.testing.assert_close(share.grad, 2 * losses.grad)


@pytest.mark.parametrize("name", ["constant", "uncertainty", "famo", "dwa"])
def test_state_resumes(name, tmp_path):
    def steps(weighting, epochs):
        values = []
        for epoch in epochs:
            for step in range(3):
                losses = torch.tensor([1.0, 2.0]) / (1 + epoch + 0.1 * step)
                values.append(float(total(weighting, losses).detach()))
                weighting.update(losses * torch.tensor([0.9, 0.5]), ALL, reduce=no_reduce)
            weighting.end_epoch()
        return values

    whole = build(name)
    steps(whole, range(2))
    torch.save(whole.training_state(), tmp_path / "state.pt")
    wanted = steps(whole, range(2, 4))
    resumed = build(name)
    resumed.load_training_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert steps(resumed, range(2, 4)) == wanted
