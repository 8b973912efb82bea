"""Every kind of vision tower of transformers: its features, images, boundaries and refusals."""

import copy
import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch
import transformers as hf

from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.blocks import BackboneConfig
from faceattr.models.backbones.names import build_backbone, restore_backbone
from faceattr.models.backbones.towers.processors import read_preprocessing
from faceattr.models.freezing import freeze
from faceattr.models.lora.adapters import apply_lora
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.transforms import EvalTransform, Normalise
from tests.models.tiny import ATTRIBUTES, assert_same_outputs, assert_split_is_exact, images_for
from tests.models.tower_folders import CHAINS, SHAPE, SQUARE, WHOLE, reference_features, save_tower

KINDS = [*CHAINS, *WHOLE]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Kind -> the folder of its checkpoint, made when it is first asked for."""
    root = tmp_path_factory.mktemp("towers")
    return lambda kind: save_tower(kind, root / kind) if not (root / kind).exists() else root / kind


def build(folders, kind, **kwargs):
    return build_backbone(f"hf:{folders(kind)}", pretrained=True, **kwargs)


def build_model(folders, kind):
    return MultiAttributeModel(build(folders, kind), ATTRIBUTES)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_transformers(folders, kind):
    backbone = build(folders, kind).eval()
    images = images_for(backbone)
    features = backbone(images)
    assert features.shape == (2, backbone.num_features)
    torch.testing.assert_close(features, reference_features(kind, folders(kind), images), rtol=1e-6, atol=1e-6)
    assert (features[0] - features[1]).abs().max() > 1e-4  # they depend on the image


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_those_of_the_checkpoints_own_processor(folders, kind):
    backbone = build(folders, kind)
    processor = hf.AutoImageProcessor.from_pretrained(folders(kind))
    for shape in ((61, 47, 3), (40, 90, 3)):
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        theirs = processor(images=[image], return_tensors="pt")["pixel_values"][0]
        pixels = EvalTransform(backbone.preprocessing)(torch.from_numpy(image).permute(2, 0, 1))
        ours = Normalise(backbone.preprocessing)(pixels)
        # DINOv3's resizes in float: less than a level of 255 apart. All others are equal but for float32 rounding.
        level = (1 / 255) / min(backbone.preprocessing.std) if "dinov3" in kind else 2e-5
        torch.testing.assert_close(ours, theirs, rtol=0, atol=level)


@pytest.mark.parametrize("kind", CHAINS)
def test_split_is_exact_at_every_boundary(folders, kind):
    model = build_model(folders, kind)
    freeze(model, "all")
    model.eval()
    assert_split_is_exact(model)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_blocks_stand_still_and_all_others_get_gradients(folders, kind):
    model = build_model(folders, kind)
    freeze(model, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()
    images = images_for(model.backbone, num=3)
    sum(output.square().mean() for output in model(images).values()).backward()
    for name, parameter in model.named_parameters():
        inside = name.removeprefix("backbone.module.")
        trains = inside == name or model.backbone.block_of(inside) >= 2
        # A parameter without a gradient would stop a training on several workers.
        assert (parameter.grad is not None) == trains, name
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert not [name for name in moved if model.backbone.block_of(name.removeprefix("backbone.module.")) < 2]
    assert all("running" in name or "num_batches" in name for name in moved)


def test_a_frozen_dinov3_sees_the_same_positions_in_training(folders):
    model = build_model(folders, "dinov3_vit")
    images = images_for(model.backbone)
    model.train()
    assert not torch.equal(model(images)["hat"], model(images)["hat"])  # its positions are scaled at random
    freeze(model, 1)
    model.train()
    assert_same_outputs(model(images), model(images))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back_without_the_checkpoint(folders, kind, tmp_path):
    model = build_model(folders, kind).eval()
    model.save_pretrained(tmp_path / "model")
    again = MultiAttributeModel.from_pretrained(tmp_path / "model")
    assert again.backbone.config == model.backbone.config
    assert again.backbone.preprocessing == model.backbone.preprocessing
    images = images_for(model.backbone)
    assert_same_outputs(again(images), model(images))


def test_blocks_are_stem_and_layers(folders):
    blocks = {kind: [block.name for block in build(folders, kind).blocks] for kind in ("dinov2", "convnext", "swin")}
    assert blocks["dinov2"] == ["stem", "encoder.layer.0", "encoder.layer.1"]
    assert blocks["convnext"] == [
        "stem",
        *(f"encoder.stages.{stage}.layers.{layer}" for stage, layer in ((0, 0), (1, 0), (2, 0), (2, 1), (3, 0))),
    ]
    assert blocks["swin"] == ["stem", "encoder.layers.0", "encoder.layers.1"]
    swin = build(folders, "swin")
    assert not swin.can_split
    assert swin.block_of("embeddings.patch_embeddings.projection.weight") == 0
    assert swin.block_of("layernorm.weight") == 2
    convnext = build(folders, "convnext")
    assert convnext.block_of("encoder.stages.1.downsampling_layer.1.weight") == 2


@pytest.mark.parametrize("kind", ["siglip", "dinov2", "dinov2_with_registers", "dinov3_vit", "convnext"])
def test_another_size_is_what_transformers_makes_of_it(folders, kind):
    backbone = build(folders, kind, image_size=48).eval()
    assert (backbone.config.image_size, backbone.preprocessing.size_px) == (48, 48)
    images = images_for(backbone)
    model_class = CHAINS[kind][0]
    interpolated = {"interpolate_pos_encoding": True} if kind == "siglip" else {}
    wanted = model_class.from_pretrained(folders(kind)).eval()(pixel_values=images, **interpolated).pooler_output
    torch.testing.assert_close(backbone(images), wanted)
    restored = restore_backbone(backbone.config, backbone.preprocessing).eval()
    restored.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(restored(images), backbone(images))


def test_sizes_that_are_refused(folders):
    with pytest.raises(ConfigError, match="44 is not a multiple of its patch of 8 px"):
        build(folders, "dinov2", image_size=44)
    with pytest.raises(ConfigError, match="a vit of transformers takes images of 32 px alone"):
        build(folders, "vit", image_size=48)


@pytest.mark.parametrize("kind", ["siglip", "dinov2", "dinov3_vit", "vit"])
def test_lora_adapts_the_attention_projections(folders, kind):
    model = build_model(folders, kind)
    images = images_for(model.backbone)
    model.eval()
    wanted = model(images)
    assert apply_lora(model.backbone, rank=2) == 2 * 4  # two layers; query, key, value, output
    freeze(model, 0)
    assert_same_outputs(model.eval()(images), wanted)
    sum(output.square().mean() for output in model(images).values()).backward()
    assert all(each.grad is not None for each in model.parameters() if each.requires_grad)


def test_random_weights_and_the_order_of_training(folders):
    random = build_backbone(str(folders("dinov2")), pretrained=False)
    trained = build(folders, "dinov2")
    assert random.config == BackboneConfig(**{**asdict(trained.config), "name": str(folders("dinov2"))})
    assert not torch.equal(random.module.embeddings.cls_token, trained.module.embeddings.cls_token)
    assert trained.no_weight_decay() == {"embeddings.cls_token", "embeddings.position_embeddings"}
    assert "embeddings.mask_token" in trained.module.state_dict()
    assert "embeddings.mask_token" not in dict(trained.module.named_parameters())
    assert torch.equal(copy.deepcopy(trained).module.embeddings.mask_token, trained.module.embeddings.mask_token)


def damaged(folder, target, file, **values):
    shutil.copytree(folder, target)
    content = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps({**content, **values}))
    return str(target)


def test_kinds_that_are_refused(folders, tmp_path):
    config = "config.json"
    dinov2 = folders("dinov2")
    cases = {
        "bert": "no vision tower for the model_type 'bert'. Known kinds are clip_vision_model, siglip_vision_model",
        "unheard_of": "no vision tower for the model_type 'unheard_of'",
        "siglip2": "use a SigLIP 2 checkpoint of one image size",
        "timm_wrapper": "give its timm name",
        "vit_mae": "defines no pooled output",
        "detr": "built around another network",
    }
    for kind, message in cases.items():
        with pytest.raises(ModelError, match=message):
            build_backbone(damaged(dinov2, tmp_path / kind, config, model_type=kind), pretrained=False)
    headless = damaged(folders("siglip"), tmp_path / "headless", config, vision_use_head=False)
    with pytest.raises(ModelError, match=r"defines no pooled output .*vision_use_head false"):
        build_backbone(headless, pretrained=False)


def test_processors_that_are_refused(folders, tmp_path):
    processor = "preprocessor_config.json"
    cases = [
        ("dinov2", {"do_resize": False}, "do_resize is false"),
        ("dinov2", {"do_center_crop": False}, "do_center_crop is false"),
        ("dinov2", {"crop_size": {"height": 32, "width": 24}}, "crop_size is .*expected a square"),
        ("dinov2", {"crop_size": {"height": 64, "width": 64}}, "larger than the resized image of 40 px"),
        ("siglip", {"size": {"height": 32, "width": 40}}, "size is .*expected a square"),
        ("siglip", {"resample": 1}, "resample is 1; expected a nearest"),
        ("siglip", {"image_processor_type": "DonutImageProcessor"}, "'DonutImageProcessor' is not known here"),
        ("siglip", {"image_processor_type": "pipeline"}, "'pipeline' is not known here"),
    ]
    for place, (kind, values, message) in enumerate(cases):
        folder = damaged(folders(kind), tmp_path / str(place), processor, **values)
        with pytest.raises(ModelError, match=message):
            build_backbone(folder, pretrained=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # Settings as the hub's older checkpoints have them: a bare side, and an earlier name of the class.
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "resample": 2}, (32, 32, "squash", "bilinear")),
        (
            {"image_processor_type": "BitImageProcessorFast", "crop_size": 289, "size": {"shortest_edge": 346}},
            (289, 346, "center_down", "bicubic"),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": 224, "crop_pct": 0.875, "resample": 3},
            (224, 256, "center_down", "bicubic"),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": 384, "resample": 3},
            (384, 384, "squash", "bicubic"),
        ),
    ],
)
def test_sizes_of_processors(tmp_path, settings, expected):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    found = read_preprocessing(tmp_path)
    assert (found.size_px, found.resize_px, found.crop_mode, found.interpolation) == expected


def test_efficientnet_may_divide_twice_and_subtract_one(tmp_path):
    settings = {"include_top": True, "rescale_offset": True, "rescale_factor": 1 / 127.5}
    hf.EfficientNetImageProcessor(**SQUARE, **settings).save_pretrained(tmp_path)
    preprocessing = read_preprocessing(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    theirs = hf.AutoImageProcessor.from_pretrained(tmp_path)(images=[image], return_tensors="pt")["pixel_values"][0]
    pixels = EvalTransform(preprocessing)(torch.from_numpy(image).permute(2, 0, 1))
    torch.testing.assert_close(Normalise(preprocessing)(pixels), theirs, rtol=1e-5, atol=1e-4)


def test_shapes_are_whitelisted(folders):
    backbone = build(folders, "dinov2")
    door = {"_attn_implementation": "kernels-community/flash-attn2", "auto_map": {"AutoModel": "code.Model"}}
    config = BackboneConfig(**{**asdict(backbone.config), "hf_config": {**backbone.config.hf_config, **door}})
    restored = restore_backbone(config, backbone.preprocessing)
    assert restored.module.config._attn_implementation == backbone.module.config._attn_implementation
    assert restored.config.hf_config == backbone.config.hf_config
    assert set(SHAPE) - {"intermediate_size"} <= set(restored.config.hf_config)
