"""Batch norms that are frozen or shared, and activations that are computed again: against the plain network."""

import copy

import pytest
import torch
from torch import nn

from faceattr.config.train import ModelConfig, TrainConfig, TrainWorkersConfig
from faceattr.errors import ConfigError
from faceattr.models.backbones.modes import set_batch_norm, set_recompute
from faceattr.models.backbones.names import build_backbone
from faceattr.models.freezing import freeze
from tests.models.tiny import assert_same_outputs, build_model, images_for


def step(model, num=4):
    """Gradients of a training step, in which dropout draws from a fixed seed."""
    model.train()
    torch.manual_seed(5)
    outputs = model(images_for(model.backbone, num=num))
    sum(output.square().mean() for output in outputs.values()).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("family", ["resnet", "vit", "clip", "vgg"])
@pytest.mark.parametrize("depth", [0, 2])
def test_what_is_computed_again_gives_the_same_gradients_and_statistics(family, depth, clip_folder):
    plain = build_model(family, clip_folder)
    freeze(plain, depth)
    saving = copy.deepcopy(plain)
    set_recompute(saving.backbone)
    wanted, found = step(plain), step(saving)
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], gradient) for name, gradient in wanted.items())
    for (name, one), other in zip(plain.state_dict().items(), saving.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    images = images_for(plain.backbone)
    assert_same_outputs(saving.eval()(images), plain.eval()(images))


def test_what_is_computed_again_is_not_kept():
    """Between the blocks alone; a saved tensor is what autograd keeps for the gradients."""

    def kept_bytes(model):
        sizes = []

        def pack(tensor):
            sizes.append(tensor.nbytes)
            return tensor

        model.train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(images_for(model.backbone, num=4))
        return sum(sizes)

    plain = build_model("vit", None)
    saving = copy.deepcopy(plain)
    set_recompute(saving.backbone)
    assert kept_bytes(saving) < 0.5 * kept_bytes(plain)


def test_timm_does_it_for_networks_that_run_as_a_whole():
    backbone = build_backbone("test_nfnet", pretrained=False, image_size=64)
    assert not backbone.can_split
    set_recompute(backbone)
    assert backbone.module.grad_checkpointing
    with pytest.raises(ConfigError, match=r"--workers\.recompute: test_maxvit .* cannot; networks"):
        set_recompute(build_backbone("test_maxvit", pretrained=False, image_size=64))


def test_frozen_norms_stand_still_while_the_rest_trains():
    model = build_model("resnet", None)
    set_batch_norm(model.backbone, "frozen")
    freeze(model, 0)
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = step(model)
    assert not any(name.rpartition(".")[0] in norms for name in gradients)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.sub_(0.01 * gradients.get(name, torch.zeros(())))
    for name, tensor in model.state_dict().items():
        if name.rpartition(".")[0] in norms:
            assert torch.equal(tensor, before[name]), name
    stem = "backbone.module.conv1.0.weight"
    assert not torch.equal(model.state_dict()[stem], before[stem])
    # A later stage, with other blocks frozen, keeps them.
    freeze(model, 2)
    freeze(model, 0)
    assert not any(model.get_submodule(name).training for name in norms)
    assert not any(weight.requires_grad for name in norms for weight in model.get_submodule(name).parameters())


def test_shared_norms_have_the_same_weights_and_alone_the_same_outputs():
    model = build_model("resnet", None)
    shared = copy.deepcopy(model)
    set_batch_norm(shared.backbone, "sync")
    kinds = {type(module).__name__ for module in shared.backbone.batch_norms()}
    assert kinds <= {"SyncBatchNorm", "SyncBatchNormAct"}
    assert list(shared.state_dict()) == list(model.state_dict())
    wanted, found = step(model), step(shared)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient)
    images = images_for(model.backbone)
    assert_same_outputs(shared.eval()(images), model.eval()(images), rtol=1e-5, atol=1e-6)


def test_a_backbone_without_batch_norm_is_refused():
    for mode in ("frozen", "sync"):
        with pytest.raises(ConfigError, match=rf"--model\.batch-norm {mode}: test_vit has no batch norm"):
            set_batch_norm(build_model("vit", None).backbone, mode)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"batch_norm": "sync"}, "expected train or frozen without --workers.use-gpu, since torch"),
        ({"batch_norm": "frozen", "pretrained": False}, "expected train or sync for random weights"),
        ({"batch_norm": "ghost"}, "expected one of train, frozen, sync"),
    ],
)
def test_modes_that_cannot_work_are_refused_before_anything_starts(model, message):
    with pytest.raises(ConfigError, match=f"^--model.batch-norm: {message}"):
        TrainConfig(data=("d",), output="o", model=ModelConfig(**model))


def test_shared_norms_are_for_gpus():
    on_gpus = TrainWorkersConfig(use_gpu=True)
    config = TrainConfig(data=("d",), output="o", model=ModelConfig(batch_norm="sync"), workers=on_gpus)
    assert config.model.batch_norm == "sync"
