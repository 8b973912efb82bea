import copy

import pytest
import torch
from torch import nn

from faceattr.errors import ConfigError
from faceattr.models.backbones.names import build_backbone
from faceattr.models.freezing import describe_trainable, freeze, resolve_depth, split_at
from faceattr.models.multitask import MultiAttributeModel
from tests.models.tiny import ATTRIBUTES, FAMILIES, assert_same_outputs, assert_split_is_exact, build_model, images_for

ALL_FAMILIES = [*FAMILIES, "clip"]


def _state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _train_step(model):
    # Small, for the gradients of Inception's batch norms over three maps of 1 x 1 are in the thousands.
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.001)
    model.train()
    images = images_for(model.backbone, num=3)
    loss = sum(output.square().mean() for output in model(images).values())
    loss.backward()
    optimizer.step()
    # What is not a number differs from everything: it would pass for a weight that has moved.
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all(), name


def _take_statistics(model):
    """Gives batch norms the statistics of a batch, so that evaluation has outputs of the size that training has."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(images_for(model.backbone, num=3))


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_frozen_blocks_stand_still_and_others_move(family, clip_folder):
    model = build_model(family, clip_folder)
    depth = 2
    freeze(model, depth)
    before = _state(model)
    _train_step(model)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    blocks = {}
    for name in before:
        inside = name.removeprefix("backbone.module.")
        block = "heads" if inside == name else model.backbone.block_of(inside)
        blocks.setdefault(block, set()).add(name)
    for block, names in blocks.items():
        if block != "heads" and block < depth:
            assert not names & moved, (block, names & moved)
        else:
            assert names & moved, (block, names)
    # Statistics are buffers; the trained blocks' move, the frozen ones' did not (above).
    statistics = {name for name in before if "running_mean" in name}
    if statistics:
        assert statistics & moved
        assert statistics - moved


def test_frozen_modules_stay_in_eval_mode_and_thaw():
    model = build_model("resnet", None)
    freeze(model, 3)
    model.train()
    norms = {name: m.training for name, m in model.backbone.module.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms["bn1"] is False
    assert norms["layer2.0.bn1"] is False
    assert norms["layer3.0.bn1"] is True
    assert model.training
    assert model.heads.training
    freeze(model, 0)
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.eval()
    freeze(model, 2)
    assert not any(module.training for module in model.modules())


def test_dropout_of_frozen_blocks_is_off(clip_folder):
    torch.manual_seed(0)
    backbone = build_backbone(
        "test_vit",
        pretrained=False,
        image_size=32,
        args={"depth": 2, "proj_drop_rate": 0.5, "pos_drop_rate": 0.5, "drop_rate": 0.5},
    )
    model = MultiAttributeModel(backbone, ATTRIBUTES)
    images = images_for(backbone)
    freeze(model, "all")
    model.train()
    assert_same_outputs(model(images), model(images))
    freeze(model, 2)
    prefix, _ = split_at(model, 2)
    torch.testing.assert_close(prefix(images), prefix(images), rtol=0, atol=0)
    assert not torch.equal(model(images)["hat"], model(images)["hat"])


def test_depths():
    model = build_model("vit", None)
    backbone = model.backbone
    assert backbone.num_blocks == 4
    assert [resolve_depth(backbone, depth) for depth in (0, 1, 4, -1, "all")] == [0, 1, 4, 4, 4]
    for depth in (5, -2, "stem", 1.5):
        with pytest.raises(ConfigError, match=r"has 4 blocks \(stem to blocks.2\); expected 0 to 4, or -1 or 'all'"):
            freeze(model, depth)
    freeze(model, 1)
    frozen = [name for name, parameter in backbone.module.named_parameters() if not parameter.requires_grad]
    assert frozen == ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"]


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_split_is_exact_at_every_boundary(family, clip_folder):
    model = build_model(family, clip_folder, heads="celeba4")
    _take_statistics(model)
    freeze(model, "all")
    model.eval()
    assert_split_is_exact(model)


@pytest.mark.parametrize("family", ["resnet", "vit", "vgg", "clip"])
def test_split_trains_as_the_whole_model_does(family, clip_folder):
    """Training on cached activations: same loss, same gradients, same step, in training mode."""
    whole = build_model(family, clip_folder, heads="mlp")
    freeze(whole, 3)
    parted = copy.deepcopy(whole)
    prefix, suffix = split_at(parted, 2)  # a shallower boundary than the freeze depth
    images = images_for(whole.backbone, num=3)
    activations = prefix(images)
    assert not activations.requires_grad
    whole.train()
    suffix.train()
    results = []
    for module, inputs in ((whole, images), (suffix, activations)):
        torch.manual_seed(3)
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1)
        outputs = module(inputs)
        sum(output.square().mean() for output in outputs.values()).backward()
        optimizer.step()
        results.append({name: output.detach() for name, output in outputs.items()})
    assert_same_outputs(results[1], results[0])
    for (name, theirs), ours in zip(whole.state_dict().items(), parted.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, msg=name)


def test_suffix_holds_only_what_lies_behind():
    model = build_model("vit", None)
    freeze(model, 2)
    _, suffix = split_at(model, 2)
    wanted = {
        id(p) for name, p in model.named_parameters() if "blocks.1" in name or "blocks.2" in name or "heads" in name
    }
    wanted |= {id(p) for p in model.backbone.module.norm.parameters()}
    assert {id(parameter) for parameter in suffix.parameters()} == wanted
    _, whole = (freeze(model, 0), split_at(model, 0))[1]
    assert {id(parameter) for parameter in whole.parameters()} == {id(parameter) for parameter in model.parameters()}
    freeze(model, "all")
    _, heads = split_at(model, "all")
    assert {id(parameter) for parameter in heads.parameters()} == {id(p) for p in model.heads.parameters()}


def test_a_copy_of_the_suffix_stands_alone():
    model = build_model("resnet", None)
    freeze(model, 2)
    prefix, suffix = split_at(model, 2)
    suffix.eval()
    activations = prefix(images_for(model.backbone))
    with torch.no_grad():
        before = suffix(activations)
        averaged = copy.deepcopy(suffix)
        for parameter in suffix.parameters():
            parameter.mul_(2)
        assert_same_outputs(averaged(activations), before)
        assert not torch.equal(suffix(activations)["hat"], before["hat"])


def test_splits_that_are_refused():
    model = build_model("resnet", None)
    freeze(model, 2)
    with pytest.raises(ConfigError, match=r"only 2 of 5 blocks are frozen.*freeze\(model, 3\) first"):
        split_at(model, 3)
    prefix, _ = split_at(model, 2)
    freeze(model, 1)
    with pytest.raises(ConfigError, match="split it again"):
        prefix(images_for(model.backbone))
    other = MultiAttributeModel(build_backbone("test_nfnet", pretrained=False, image_size=32), ATTRIBUTES).eval()
    freeze(other, "all")
    with pytest.raises(ConfigError, match="cannot be run in parts; expected 0 or 'all'"):
        split_at(other, 1)
    images = images_for(other.backbone)
    prefix, suffix = split_at(other, "all")
    assert_same_outputs(suffix(prefix(images)), other(images))


def test_other_families_freeze_too():
    model = MultiAttributeModel(build_backbone("mobilenetv3_small_050", pretrained=False, image_size=32), ATTRIBUTES)
    freeze(model, 2)
    before = _state(model)
    _train_step(model)
    frozen = {
        f"backbone.module.{name}"
        for name, _ in model.backbone.module.named_parameters()
        if model.backbone.block_of(name) < 2
    }
    assert frozen
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in frozen)
    prefix = "backbone.module."
    means = {name for name in before if name.endswith("running_mean")}
    still = {name for name in means if torch.equal(model.state_dict()[name], before[name])}
    assert still == {name for name in means if model.backbone.block_of(name.removeprefix(prefix)) < 2}


def test_prefix_id_follows_its_own_weights_only():
    model = build_model("resnet", None)
    freeze(model, 2)
    prefix, _ = split_at(model, 2)
    shallow, _ = split_at(model, 1)
    before = prefix.compute_weights_id()
    assert before != shallow.compute_weights_id()
    with torch.no_grad():
        model.backbone.module.layer3[0].conv1.weight.add_(1)
        model.head("hat").weight.add_(1)
        assert prefix.compute_weights_id() == before
        model.backbone.module.bn1.running_mean.add_(1)
    assert prefix.compute_weights_id() != before


def test_report():
    model = build_model("vit", None)
    freeze(model, 2)
    report = describe_trainable(model)
    assert [row.name for row in report.rows][:2] == ["0 stem", "1 blocks.0"]
    assert [row.name for row in report.rows][-1] == "head person"
    assert [row.num_trained == 0 for row in report.rows] == [True, True] + [False] * 7
    assert report.num_frozen == sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert report.num_trained + report.num_frozen == sum(p.numel() for p in model.parameters())
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(report.rows) + 1
    assert lines[-1].startswith("test_vit, freeze depth 2")
    assert len({len(line) for line in lines}) == 1
