import pytest
import torch

from faceattr.errors import ConfigError
from faceattr.models.freezing import freeze
from faceattr.models.schedules import Stage, build_parameter_groups, gradual_unfreezing, stage_at, two_stages
from tests.models.tiny import build_model


def test_two_stages_of_seed_003():
    stages = two_stages(head_epochs=3, epochs=5)
    assert stages == (
        Stage(num_epochs=3, freeze_depth="all", lr=1e-4),
        Stage(num_epochs=5, freeze_depth=0, lr=1e-5),
    )
    assert [stage_at(stages, epoch) for epoch in range(9)] == [0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_gradual_unfreezing():
    stages = gradual_unfreezing(4, epochs=7, lr=1.0, lr_factor=0.5)
    assert [(stage.num_epochs, stage.freeze_depth, stage.lr) for stage in stages] == [
        (2, 4, 1.0),
        (2, 3, 0.5),
        (1, 2, 0.25),
        (1, 1, 0.125),
        (1, 0, 0.0625),
    ]
    stages = gradual_unfreezing(13, epochs=6, lr=1.0, num_steps=2, freeze_depth=9)
    assert [(stage.num_epochs, stage.freeze_depth) for stage in stages] == [(2, 13), (2, 11), (2, 9)]
    # Fewer epochs than blocks: still from heads only down to the last depth.
    stages = gradual_unfreezing(25, epochs=3, lr=1.0)
    assert [stage.freeze_depth for stage in stages] == [25, 13, 0]


def test_impossible_schedules():
    with pytest.raises(ConfigError, match="expected 1 to 2, with an epoch for each step"):
        gradual_unfreezing(4, epochs=3, lr=1.0, num_steps=3)
    with pytest.raises(ConfigError, match="num_steps is 0"):
        gradual_unfreezing(4, epochs=1, lr=1.0)
    with pytest.raises(ConfigError, match="expected 0 to 3"):
        gradual_unfreezing(4, epochs=3, lr=1.0, freeze_depth=4)
    with pytest.raises(ConfigError, match="at least one epoch"):
        Stage(num_epochs=0, freeze_depth=0, lr=1.0)
    with pytest.raises(ConfigError, match="at least one stage"):
        stage_at((), 0)


def test_learning_rates_fall_with_depth(clip_folder):
    for family in ("vit", "resnet", "clip"):
        model = build_model(family, clip_folder)
        num_blocks = model.backbone.num_blocks
        groups = build_parameter_groups(model, lr=1.0, weight_decay=0.05, layer_decay=0.5)
        found = {id(parameter): group for group in groups for parameter in group["params"]}
        assert len(found) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        for name, parameter in model.named_parameters():
            inside = name.removeprefix("backbone.module.")
            layer = num_blocks if inside == name else model.backbone.block_of(inside)
            group = found[id(parameter)]
            assert group["lr"] == pytest.approx(0.5 ** (num_blocks - layer))
            is_embedding = inside in ("pos_embed", "cls_token", "embeddings.position_embedding.weight")
            assert (group["weight_decay"] == 0) == (parameter.ndim <= 1 or is_embedding), name
            assert group["name"].startswith("heads" if inside == name else f"block{layer}")
        assert not any("lr_scale" in group for group in groups)
        torch.optim.AdamW(groups)


def test_frozen_parameters_are_in_no_group():
    model = build_model("vit", None)
    freeze(model, 2)
    groups = build_parameter_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    assert {group["name"].split("_")[0] for group in groups} == {"block2", "block3", "heads"}
    assert min(group["lr"] for group in groups) == 0.25
    model.requires_grad_(False)
    with pytest.raises(ConfigError, match="nothing trains"):
        build_parameter_groups(model, lr=1.0, weight_decay=0.1)
    with pytest.raises(ConfigError, match="layer_decay is 0"):
        build_parameter_groups(model, lr=1.0, weight_decay=0.1, layer_decay=0)
