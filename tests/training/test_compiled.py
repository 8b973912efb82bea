"""Compiled training: when it pays, networks that are not one graph, and the same losses as without."""

import pytest
import torch
from torch import Tensor

from faceattr.config.fit import FitConfig, OptimConfig
from faceattr.errors import ModelError
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.loop.compiled import CompiledNetwork, check_whole_graph, choose_compile, find_graph_break
from faceattr.training.loop.fit import EpochBatches, fit
from faceattr.training.loop.ranks import Ranks
from tests.training.toy import ATTRIBUTES, SIZE, ToyBackbone, build_toy, count, make_batch


class BrokenBackbone(ToyBackbone):
    """It breaks a graph by torch's own means: what `print` does depends on who has replaced standard output."""

    def pool(self, x: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x


@pytest.mark.parametrize(
    ("choice", "capability", "num_workers", "num_images", "expected"),
    [
        ("auto", (9, 0), 1, 4_000_000, (True, "auto: 4,000,000 images")),
        ("auto", (9, 0), 1, 3_999_999, (False, "auto: 3,999,999 images are fewer than 4,000,000")),
        ("auto", (9, 0), 2, 4_000_000, (False, "auto: several workers")),
        ("auto", (6, 1), 1, 4_000_000, (False, "auto: the GPU is too old")),
        ("auto", None, 1, 4_000_000, (False, "auto")),
        ("on", None, 2, 1, (True, "as given")),
        ("off", (9, 0), 1, 4_000_000, (False, "as given")),
    ],
)
def test_auto_compiles_long_trainings_on_a_gpu(choice, capability, num_workers, num_images, expected):
    found = choose_compile(choice, capability=capability, num_workers=num_workers, num_images=num_images)
    assert found == expected


@pytest.mark.long
def test_a_network_that_is_no_graph_is_refused_with_the_reason():
    assert find_graph_break(build_toy()) is None
    check_whole_graph(build_toy())
    broken = MultiAttributeModel(BrokenBackbone(), ATTRIBUTES)
    with pytest.raises(
        ModelError, match=r"--workers\.compile on: .*inserted graph break.*--workers\.compile off trains it"
    ):
        check_whole_graph(broken)
    with pytest.raises(
        ModelError, match=r"cannot be compiled on this worker \(.*inserted graph break.*--workers\.compile off"
    ):
        CompiledNetwork(broken, one_shape=True)(torch.zeros(2, 3, SIZE, SIZE))


@pytest.mark.long
def test_a_compiled_training_has_the_losses_of_a_plain_one():
    train = [make_batch(16, seed) for seed in range(4)]
    histories = []
    for compiled in (False, True):
        model = build_toy(norm=False)  # a bias before a batch norm is moved by rounding alone
        found = fit(
            model,
            EpochBatches(train=lambda epoch: iter(train), val=lambda: iter([make_batch(40, 100)]), num_train=4),
            FitConfig(optim=OptimConfig(lr=1e-2, epochs=2, ema_decay=0.9)),
            counts=count(train),
            ranks=Ranks(device=torch.device("cpu")),
            compiled=compiled,
        )
        histories.append([{k: v for k, v in each.items() if k.endswith("loss")} for each in found.history])
        assert not any("_orig_mod" in name for name in model.state_dict())
    for plain, compiled in zip(*histories, strict=True):
        assert compiled == pytest.approx(plain, rel=1e-4)
