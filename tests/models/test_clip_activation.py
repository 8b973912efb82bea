"""CLIP weights give the features of the network that they were trained in."""

import pytest
import timm
import torch
import yaml
from transformers import CLIPVisionConfig, CLIPVisionModel

from faceattr.errors import ConfigError
from faceattr.models.backbones.blocks import BackboneConfig
from faceattr.models.backbones.names import build_backbone, built_name, restore_backbone
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.presets import PRESETS_FOLDER
from tests.models.tiny import ATTRIBUTES, assert_same_outputs, images_for

# transformers has vision transformers of CLIP only; OpenAI's ResNets have ReLU under every name.
OPENAI = timm.list_models("vit_*clip*.openai", pretrained=True)
SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 2}


def reference_of(backbone, *, activation="quick_gelu"):
    """transformers' tower with the weights of a timm one, large enough that the activation matters."""
    module = backbone.module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)) * 0.3)
    state = module.state_dict()
    patch, width = module.patch_embed.patch_size[0], module.embed_dim
    tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=len(state["blocks.0.mlp.fc1.weight"]),
            num_hidden_layers=len(module.blocks),
            num_attention_heads=2,
            image_size=backbone.config.image_size,
            patch_size=patch,
            hidden_act=activation,
        )
    )
    theirs = {
        "embeddings.class_embedding": state["cls_token"][0, 0],
        "embeddings.patch_embedding.weight": state["patch_embed.proj.weight"],
        "embeddings.position_embedding.weight": state["pos_embed"][0],
    }
    norms = {"norm_pre": "pre_layrnorm", "norm": "post_layernorm"}
    layers = {"norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for part in ("weight", "bias"):
        theirs |= {f"{new}.{part}": state[f"{old}.{part}"] for old, new in norms.items()}
        for i in range(len(module.blocks)):
            ours, layer = f"blocks.{i}", f"encoder.layers.{i}"
            theirs |= {f"{layer}.{new}.{part}": state[f"{ours}.{old}.{part}"] for old, new in layers.items()}
            theirs[f"{layer}.self_attn.out_proj.{part}"] = state[f"{ours}.attn.proj.{part}"]
            for name, rows in zip("qkv", state[f"{ours}.attn.qkv.{part}"].chunk(3), strict=True):
                theirs[f"{layer}.self_attn.{name}_proj.{part}"] = rows
    tower.load_state_dict(theirs)
    return tower.eval()


def features(backbone, reference):
    images = images_for(backbone)
    with torch.no_grad():
        return backbone(images), reference(pixel_values=images).pooler_output


@pytest.mark.parametrize("name", OPENAI)
def test_weights_of_openai_give_the_features_of_transformers(name):
    patch = 14 if "patch14" in name else 32
    backbone = build_backbone(name, pretrained=False, image_size=2 * patch, args=SMALL).eval()
    ours, theirs = features(backbone, reference_of(backbone))
    assert torch.isfinite(theirs).all()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    # Had the blocks GELU, the features would be other ones by far more than this tolerance.
    _, others = features(backbone, reference_of(backbone, activation="gelu"))
    assert (others - theirs).abs().max() > 1e-2


def test_the_preset_on_clip_has_the_activation_of_its_weights():
    settings = yaml.safe_load((PRESETS_FOLDER / "fairface_clip.yaml").read_text(encoding="utf-8"))
    name = settings["model"]["backbone"]
    assert name in OPENAI
    assert built_name(name) == name == "vit_large_patch14_clip_quickgelu_224.openai"


def test_every_name_whose_weights_are_of_quickgelu_is_built_so():
    noted = [
        name
        for name in timm.list_models(pretrained=True)
        if "quickgelu" in " ".join(timm.get_pretrained_cfg(name).notes or ()).lower()
    ]
    assert len(noted) > 20
    for name in noted:
        built = built_name(name)
        assert "_clip_quickgelu_" in built
        # The same file of the hub, in the other network.
        assert timm.get_pretrained_cfg(built).hf_hub_id == timm.get_pretrained_cfg(name).hf_hub_id
    # Without a tag it is timm's first one.
    assert built_name("vit_huge_patch14_clip_378") == "vit_huge_patch14_clip_quickgelu_378.dfn5b"


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_clip_224.laion2b",
        "vit_base_patch16_clip_224.openai_ft_in1k",  # tuned on ImageNet with GELU
        "vit_base_patch32_clip_224",
        "resnet50_clip.openai",
        "resnet50",
        "test_vit",
    ],
)
def test_other_names_stay_as_they_are(name):
    assert built_name(name) == name


def test_unknown_names_are_refused_before_anything_is_built():
    with pytest.raises(ConfigError, match="no weights 'openia'; it has openai"):
        built_name("vit_base_patch32_clip_224.openia")
    with pytest.raises(ConfigError, match="has no such model; near names"):
        built_name("vit_base_patch32_clip_quickgelu_225.openai")


def test_a_model_of_an_older_version_keeps_the_gelu_that_it_was_trained_with(tmp_path):
    old = BackboneConfig(name="vit_base_patch32_clip_224.openai", image_size=64, args=SMALL)
    fresh = build_backbone(old.name, pretrained=False, image_size=64, args=SMALL)
    backbone = restore_backbone(old, fresh.preprocessing).eval()
    ours, theirs = features(backbone, reference_of(backbone, activation="gelu"))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    model = MultiAttributeModel(backbone, ATTRIBUTES).eval()
    model.save_pretrained(tmp_path / "old")
    again = MultiAttributeModel.from_pretrained(tmp_path / "old").eval()
    assert again.backbone.config == old
    assert_same_outputs(again(images_for(backbone)), model(images_for(backbone)))


def test_a_new_model_comes_back_with_quickgelu(tmp_path):
    backbone = build_backbone("vit_base_patch32_clip_224.openai", pretrained=False, image_size=64, args=SMALL).eval()
    assert backbone.config.name == "vit_base_patch32_clip_quickgelu_224.openai"
    reference = reference_of(backbone)
    MultiAttributeModel(backbone, ATTRIBUTES).save_pretrained(tmp_path / "new")
    again = MultiAttributeModel.from_pretrained(tmp_path / "new").eval().backbone
    ours, theirs = features(again, reference)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_an_activation_that_is_asked_for_is_kept():
    backbone = build_backbone(
        "vit_base_patch32_clip_224.openai", pretrained=False, image_size=64, args={**SMALL, "act_layer": "gelu"}
    ).eval()
    ours, theirs = features(backbone, reference_of(backbone, activation="gelu"))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
