import pytest
import torch

from faceattr.errors import ConfigError
from faceattr.models.freezing import describe_trainable, freeze, split_at
from faceattr.models.lora.adapters import apply_lora
from faceattr.models.lora.merging import has_lora, merge_lora
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.schedules import build_parameter_groups
from tests.models.tiny import assert_same_outputs, build_model, images_for

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def _train(model, steps=3):
    groups = build_parameter_groups(model, lr=0.05, weight_decay=0.0, layer_decay=0.9)
    optimizer = torch.optim.SGD(groups)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        sum(output.square().mean() for output in model(images_for(model.backbone)).values()).backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize("family", ["vit", "clip"])
@pytest.mark.parametrize("use_dora", [False, True])
def test_lora_trains_alone_and_merges(family, use_dora, clip_folder, tmp_path):
    model = build_model(family, clip_folder).eval()
    images = images_for(model.backbone)
    before = {name: tensor.clone() for name, tensor in model.backbone.module.state_dict().items()}
    untouched = model(images)
    freeze(model, 2)
    num = apply_lora(model.backbone, rank=4, use_dora=use_dora)
    assert num == {"vit": 2 * 2, "clip": 2 * 4}[family]
    assert_same_outputs(model(images), untouched, **CLOSE)
    trained = {name for name, p in model.backbone.module.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name and model.backbone.block_of(name) >= 2 for name in trained)

    _train(model)
    outputs = model(images)
    assert not torch.allclose(outputs["hat"], untouched["hat"], atol=1e-3)
    base = {
        name.replace(".base_layer", ""): tensor
        for name, tensor in model.backbone.module.state_dict().items()
        if "lora_" not in name
    }
    assert set(base) == set(before)
    assert all(torch.equal(base[name], before[name]) for name in before)

    prefix, suffix = split_at(model, 2)
    assert_same_outputs(suffix(prefix(images)), outputs)
    model.save_pretrained(tmp_path)
    assert has_lora(model)
    loaded = MultiAttributeModel.from_pretrained(tmp_path)
    assert_same_outputs(loaded(images), outputs, **CLOSE)
    merge_lora(model)
    assert not has_lora(model)
    assert set(model.backbone.module.state_dict()) == set(before)
    assert_same_outputs(model(images), outputs, **CLOSE)


def test_freezing_with_lora_thaws_only_lora():
    model = build_model("vit", None)
    apply_lora(model.backbone, rank=2, targets=["fc1"])
    freeze(model, 0)
    report = describe_trainable(model)
    assert report.rows[0].num_trained == 0
    width, hidden, rank = 64, model.backbone.module.blocks[0].mlp.fc1.out_features, 2
    assert report.rows[1].num_trained == rank * (width + hidden)
    assert all("lora_" in name or "heads." in name for name, p in model.named_parameters() if p.requires_grad)


def test_lora_that_is_refused():
    model = build_model("vit", None)
    with pytest.raises(ConfigError, match=r"ends with \['q_prj'\]; test_vit has fc1, fc2, proj, qkv"):
        apply_lora(model.backbone, targets=["q_prj"])
    with pytest.raises(ConfigError, match="rank is 0"):
        apply_lora(model.backbone, rank=0)
    freeze(model, "all")
    with pytest.raises(ConfigError, match="beyond freeze depth 4 of 4"):
        apply_lora(model.backbone)
    freeze(model, 0)
    apply_lora(model.backbone)
    with pytest.raises(ConfigError, match="applied already"):
        apply_lora(model.backbone)
    with pytest.raises(ConfigError, match="no default target layers"):
        apply_lora(build_model("resnet", None).backbone)
