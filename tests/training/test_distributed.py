"""Two real processes under DDP against one, with labels that are missing unevenly."""

import pytest
import torch
import torch.multiprocessing

from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks, average_buffers, no_reduce
from tests.training.ranks import BATCHES, COUNTS, VAL, WEIGHTINGS, WORLD, config, gradients, part, run_rank
from tests.training.toy import build_toy, join

WHOLE = [join([part(batch, 0), part(batch, 1)]) for batch in BATCHES]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    # Imports once and forks, before any thread has started; `spawn` would import in each process.
    torch.multiprocessing.get_context("forkserver").set_forkserver_preload([run_rank.__module__])
    torch.multiprocessing.start_processes(run_rank, args=(str(folder),), nprocs=WORLD, start_method="forkserver")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORLD)]


def test_gradients_of_two_ranks_are_those_of_one(ranks):
    model = build_toy(norm=False)
    wanted = gradients(model, model, [WHOLE[0]], no_reduce, 1)
    assert wanted["heads.hat_head.weight"].abs().max() > 0
    for found in ranks:
        for name, gradient in wanted.items():
            torch.testing.assert_close(found["gradients"][name], gradient, msg=name)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_two_ranks_train_like_one(ranks, weighting):
    model = build_toy(norm=False)
    result = fit(
        model,
        EpochBatches(train=lambda epoch: iter(WHOLE), val=lambda: VAL, num_train=len(WHOLE)),
        config(weighting),
        counts=COUNTS,
        ranks=Ranks(device=torch.device("cpu")),
    )
    for history, weights in (each[weighting] for each in ranks):
        for found, wanted in zip(history, result.history, strict=True):
            keys = [
                key
                for key in wanted
                if key.startswith(("train/", "val/", "objective", "steps", "images")) and key != "images_per_s"
            ]
            assert {k: found[k] for k in keys} == pytest.approx(
                {k: wanted[k] for k in keys}, nan_ok=True, rel=1e-4, abs=1e-5
            )
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_ranks_with_unlike_numbers_of_batches_end_together_and_agree(ranks):
    (history, weights), (other_history, other_weights) = (each["uneven"] for each in ranks)
    # Two batches a step: rank 1 has one left for its second.
    assert [record["steps"] for record in history] == [2.0, 2.0]
    for record, other in zip(history, other_history, strict=True):
        assert {k: v for k, v in record.items() if k.startswith("val/")} == pytest.approx(
            {k: v for k, v in other.items() if k.startswith("val/")}, nan_ok=True
        )
    for name, tensor in weights.items():
        torch.testing.assert_close(other_weights[name], tensor, msg=name)


def test_statistics_are_averaged_over_ranks():
    model, other = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    for norm, value in ((model, 1.0), (other, 4.0)):
        norm.running_mean.fill_(value)
        norm.num_batches_tracked.fill_(int(value))
    theirs = torch.cat([buffer.double().flatten() for buffer in other.buffers()] + [torch.ones(1).double()])
    average_buffers([model], lambda tensor: tensor + theirs)
    assert model.running_mean.tolist() == [2.5, 2.5]
    assert model.running_var.tolist() == [1.0, 1.0]
    assert int(model.num_batches_tracked) == 2
