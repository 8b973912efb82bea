import pytest
import torch

from faceattr.models.backbones.class_token import ClassTokenSuffix, reads_class_token
from faceattr.models.backbones.names import build_backbone
from faceattr.models.freezing import freeze, split_at
from faceattr.models.lora.adapters import apply_lora
from faceattr.models.multitask import MultiAttributeModel
from tests.models.tiny import ATTRIBUTES, FAMILIES, assert_same_outputs, build_model, images_for

READS = {"vit", "vit_clip", "vit_registers", "clip"}
# LayerScale, q and k norms, a norm on the attention's output and dropped paths have their place in it too.
TRAITS = {"depth": 2, "init_values": 0.5, "qk_norm": True, "scale_attn_norm": True, "drop_path_rate": 0.4}


def build_vit(**args):
    torch.manual_seed(0)
    backbone = build_backbone("test_vit", pretrained=False, image_size=32, args=args)
    return MultiAttributeModel(backbone, ATTRIBUTES)


@pytest.mark.parametrize("family", [*FAMILIES, "clip"])
def test_which_models_read_the_class_token_alone(family, clip_folder):
    assert reads_class_token(build_model(family, clip_folder).backbone) == (family in READS)


def test_dropout_and_lora_in_the_last_block_are_left_to_it():
    assert not reads_class_token(build_vit(depth=2, proj_drop_rate=0.1).backbone)
    assert not reads_class_token(build_vit(depth=2, attn_drop_rate=0.1).backbone)
    model = build_vit(depth=2)
    assert reads_class_token(model.backbone)
    apply_lora(model.backbone, rank=2)
    assert not reads_class_token(model.backbone)


@pytest.mark.parametrize("which", [*sorted(READS), "traits"])
@pytest.mark.parametrize("behind", [0, 1, 2])
def test_outputs_and_gradients_are_those_of_the_whole_block(which, behind, clip_folder):
    model = build_vit(**TRAITS) if which == "traits" else build_model(which, clip_folder)
    model.double()  # so that rounding cannot hide a difference
    backbone = model.backbone
    depth = backbone.num_blocks - behind
    freeze(model, depth)
    prefix, suffix = split_at(model, depth)
    activations = prefix(images_for(backbone, num=3).double())
    found = {}
    for name, network in {"whole": suffix, "token": ClassTokenSuffix(model, depth)}.items():
        network.train()
        model.zero_grad()
        torch.manual_seed(5)  # dropped paths are drawn alike
        outputs = network(activations)
        sum(output.square().sum() for output in outputs.values()).backward()
        gradients = {key: each.grad.clone() for key, each in model.named_parameters() if each.grad is not None}
        found[name] = (outputs, gradients)
    assert_same_outputs(found["token"][0], found["whole"][0], rtol=1e-9, atol=1e-10)
    wanted = found["whole"][1]
    assert any(key.startswith("backbone") for key in wanted) == (behind > 0)
    assert found["token"][1].keys() == wanted.keys()
    for key, gradient in wanted.items():
        torch.testing.assert_close(found["token"][1][key], gradient, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("depth", [0, 2, "all"])
def test_a_deeper_freeze_than_the_boundary_gives_the_frozen_blocks_no_gradient(depth):
    model = build_vit(depth=3)
    freeze(model, depth)
    suffix = ClassTokenSuffix(model, 0)
    outputs = suffix(images_for(model.backbone))
    assert_same_outputs(outputs, model(images_for(model.backbone)), rtol=1e-5, atol=1e-6)
    sum(output.sum() for output in outputs.values()).backward()
    frozen = model.backbone.frozen_depth
    for name, parameter in model.backbone.module.named_parameters():
        assert (parameter.grad is not None) == (model.backbone.block_of(name) >= frozen), name
