import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn
from transformers import CLIPImageProcessor, CLIPModel, CLIPVisionModel

from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.names import build_backbone, restore_backbone
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.models.transforms import EvalTransform, Normalise
from tests.models.tiny import FAMILIES, build, images_for, save_clip
from tests.stores import upload_folder


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "vgg"])
def test_features_are_those_of_timm(family):
    backbone = build(family, None).eval()
    _, _, size = FAMILIES[family]
    sized = {"img_size": size} if "vit" in family else {}
    reference = timm.create_model(
        backbone.config.name, pretrained=False, num_classes=0, **backbone.config.args, **sized
    ).eval()
    reference.load_state_dict(backbone.module.state_dict())
    images = images_for(backbone)
    features = backbone(images)
    assert features.shape == (2, backbone.num_features)
    torch.testing.assert_close(features, reference(images), rtol=0, atol=0)


def test_vgg_features_are_the_pooled_convolutions():
    backbone = build("vgg", None).eval()
    images = images_for(backbone)
    torch.testing.assert_close(backbone(images), backbone.module.features(images).mean(dim=(2, 3)))
    assert backbone.num_features == 512
    assert not any("fc" in name for name in backbone.module.state_dict())


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "vgg"])
def test_blocks_are_the_groups_of_timm(family):
    backbone = build(family, None)
    matcher = backbone.module.group_matcher(coarse=False)
    theirs = group_parameters(backbone.module, matcher, reverse=True)
    # timm puts what comes after the last block into a group of its own; here it belongs to the last block.
    for name, group in theirs.items():
        assert backbone.block_of(name) == min(group, backbone.num_blocks - 1)
    assert backbone.blocks[0].name == "stem"


def test_vgg_blocks_keep_a_norm_with_its_convolution():
    backbone = build("vgg", None)
    assert backbone.num_blocks == sum(isinstance(module, nn.Conv2d) for module in backbone.module.modules()) == 8
    assert [backbone.block_of(f"features.{i}.weight") for i in (0, 1, 4, 5)] == [0, 0, 1, 1]


def test_another_timm_family_runs_as_a_whole():
    backbone = build_backbone("test_nfnet", pretrained=False, image_size=32).eval()
    images = images_for(backbone)
    torch.testing.assert_close(backbone(images), backbone.module(images), rtol=0, atol=0)
    assert backbone.num_blocks > 3
    assert not backbone.can_split
    with pytest.raises(ConfigError, match="cannot be run in parts"):
        backbone.run(images, 0, 2)


def test_preprocessing_is_timms():
    found = build("vit_clip", None).preprocessing
    assert found.size_px == 64
    assert found.mean == timm.data.OPENAI_CLIP_MEAN
    assert (found.interpolation, found.crop_mode, found.crop_fraction) == ("bicubic", "center", 0.9)
    assert Preprocessing.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_preprocessing_refuses_what_it_cannot_do():
    with pytest.raises(ModelError, match="interpolation is 'random'; supported are nearest, bilinear, bicubic"):
        Preprocessing(size_px=8, mean=(0, 0, 0), std=(1, 1, 1), interpolation="random")
    with pytest.raises(ModelError, match="three positive deviations"):
        Preprocessing(size_px=8, mean=(0, 0, 0), std=(1, 0, 1))
    with pytest.raises(ModelError, match="crop_fraction is 0"):
        Preprocessing(size_px=8, mean=(0, 0, 0), std=(1, 1, 1), crop_fraction=0)
    with pytest.raises(ModelError, match="expected the keys"):
        Preprocessing.from_dict({"size_px": 8})


def test_dinov3_of_timm_gives_the_class_token_unless_told_otherwise():
    torch.manual_seed(0)
    args = FAMILIES["vit_dinov3"][1]
    token = build_backbone("vit_small_patch16_dinov3", pretrained=False, image_size=32, args=args).eval()
    images = images_for(token)
    features = token.module.forward_features(images)
    torch.testing.assert_close(token(images), features[:, 0])
    assert token.config.args == {"global_pool": "token", **args}
    mean = build_backbone(
        "vit_small_patch16_dinov3", pretrained=False, image_size=32, args={**args, "global_pool": "avg"}
    )
    assert mean.config.args["global_pool"] == "avg"
    # A model of an earlier version was saved without the argument, and averages.
    old = restore_backbone(replace(token.config, args=args), token.preprocessing).eval()
    old.load_state_dict(token.state_dict())
    torch.testing.assert_close(old(images), features[:, 5:].mean(1))  # after the class token and four registers


def test_unknown_names_get_near_ones():
    with pytest.raises(ConfigError, match=r"'resnet5O'.*near names are .*resnet50"):
        build_backbone("resnet5O", pretrained=False)
    with pytest.raises(ConfigError, match=r"no weights 'openia'; it has openai"):
        build_backbone("vit_base_patch32_clip_224.openia", pretrained=False)
    with_weights = {name.partition(".")[0] for name in timm.list_models("resnet*", pretrained=True)}
    without = next(name for name in timm.list_models("resnet*") if name not in with_weights)
    with pytest.raises(ConfigError, match="no pretrained weights"):
        build_backbone(without, pretrained=True)
    with pytest.raises(ConfigError, match="does not take the arguments"):
        build_backbone("test_vit", pretrained=False, args={"dept": 2})
    with pytest.raises(ConfigError, match="use image_size"):
        build_backbone("test_vit", pretrained=False, args={"img_size": 32})


@pytest.mark.parametrize(("name", "size"), [("test_vit", 40), ("test_resnet", 16), ("inception_v3", 64), ("vgg11", 0)])
def test_impossible_sizes(name, size):
    with pytest.raises(ConfigError, match=f"image_size (is )?{size}"):
        build_backbone(name, pretrained=False, image_size=size)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ModelError, match=r"no route to the hub.*HF_HOME"):
        build_backbone("test_vit", pretrained=True)


@pytest.mark.parametrize("whole", [False, True])
def test_clip_features_are_those_of_transformers(tmp_path, whole):
    save_clip(tmp_path, whole=whole)
    reference = (
        CLIPModel.from_pretrained(tmp_path).vision_model if whole else CLIPVisionModel.from_pretrained(tmp_path)
    ).eval()
    for name in (str(tmp_path), f"hf:{tmp_path}"):
        backbone = build_backbone(name, pretrained=True).eval()
        images = images_for(backbone)
        torch.testing.assert_close(backbone(images), reference(pixel_values=images).pooler_output, rtol=0, atol=0)
    assert (backbone.num_features, backbone.num_blocks) == (24, 4)
    assert backbone.block_of("embeddings.position_embedding.weight") == 0
    assert backbone.block_of("encoder.layers.1.mlp.fc1.weight") == 2
    assert backbone.block_of("post_layernorm.bias") == 3
    without = build_backbone(str(tmp_path), pretrained=False).eval()
    assert not torch.equal(without(images), backbone(images))


def test_clip_at_another_size_interpolates_positions_once(clip_folder):
    build("clip", clip_folder)
    backbone = build_backbone(str(clip_folder), pretrained=True, image_size=48).eval()
    reference = CLIPVisionModel.from_pretrained(clip_folder).eval()
    images = images_for(backbone)
    assert images.shape[-1] == backbone.config.image_size == 48
    wanted = reference(pixel_values=images, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(backbone(images), wanted)
    restored = restore_backbone(backbone.config, backbone.preprocessing).eval()
    restored.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(restored(images), backbone(images), rtol=0, atol=0)
    with pytest.raises(ConfigError, match="not a multiple of its patch of 8 px"):
        build_backbone(str(clip_folder), pretrained=True, image_size=44)


def test_clip_images_are_those_of_its_processor(clip_folder):
    backbone = build("clip", clip_folder)
    image = np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)
    theirs = CLIPImageProcessor.from_pretrained(clip_folder)(images=[image], return_tensors="pt")["pixel_values"][0]
    pixels = EvalTransform(backbone.preprocessing)(torch.from_numpy(image).permute(2, 0, 1))
    torch.testing.assert_close(Normalise(backbone.preprocessing)(pixels), theirs, rtol=0, atol=1e-5)


def test_clip_behind_a_uri(clip_folder, s3_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEATTR_CACHE", str(tmp_path))
    local = build("clip", clip_folder)
    upload_folder(clip_folder, s3_uri)
    remote = build_backbone(f"hf:{s3_uri}", pretrained=True)
    images = images_for(local)
    assert torch.equal(remote.eval()(images), local.eval()(images))
    with pytest.raises(ConfigError, match="is empty or does not exist"):
        build_backbone(f"hf:{s3_uri}-none", pretrained=True)


def test_damaged_clip_folders(tmp_path):
    save_clip(tmp_path / "good")

    def damaged(name, edit):
        shutil.copytree(tmp_path / "good", tmp_path / name)
        edit(tmp_path / name)
        return str(tmp_path / name)

    def set_config(file, **values):
        def edit(folder):
            content = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**content, **values}))

        return edit

    cases = [
        ("no_config", lambda folder: (folder / "config.json").unlink(), "found no config.json"),
        ("bert", set_config("config.json", model_type="bert"), "no vision tower for the model_type 'bert'.*dinov2"),
        ("ours", set_config("config.json", model_type="faceattr"), "MultiAttributeModel.from_pretrained"),
        ("no_processor", lambda folder: (folder / "preprocessor_config.json").unlink(), "no preprocessor_config.json"),
        ("no_weights", lambda folder: (folder / "model.safetensors").unlink(), "Pickled weights"),
        ("garbage", lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x02}q."), "cannot be loaded"),
        (
            "deeper",
            set_config("config.json", num_hidden_layers=5),
            "tensors of the vision tower are not in the weights",
        ),
        ("no_crop", set_config("preprocessor_config.json", do_center_crop=False), "do_center_crop is false"),
        ("lanczos", set_config("preprocessor_config.json", resample=1), "bicubic resize"),
        ("size", set_config("preprocessor_config.json", crop_size=24), "32 px, its image processor makes 24 px"),
        ("json", lambda folder: (folder / "config.json").write_text("{"), "not readable as JSON"),
    ]
    for name, edit, message in cases:
        with pytest.raises(ModelError, match=message):
            build_backbone(damaged(name, edit), pretrained=True)
    with pytest.raises(ConfigError, match="for timm models only"):
        build_backbone(str(tmp_path / "good"), pretrained=True, args={"depth": 2})


def test_neither_model_nor_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        build_backbone("hf:./nothing", pretrained=True)
    with pytest.raises(ConfigError, match=r"timm .* has no such model"):
        build_backbone("./nothing", pretrained=True)


def test_a_clip_checkpoint_cannot_lead_out_of_its_folder_or_name_code(tmp_path):
    save_clip(tmp_path / "clip")
    wanted = build_backbone(str(tmp_path / "clip"), pretrained=True).eval()
    images = images_for(wanted)
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    door = {"_attn_implementation": "kernels-community/flash-attn2", "transformers_weights": "../outside.safetensors"}
    (tmp_path / "clip" / "config.json").write_text(json.dumps({**config, **door}))
    for pretrained in (True, False):
        found = build_backbone(str(tmp_path / "clip"), pretrained=pretrained).eval()
        assert found.module.config._attn_implementation == wanted.module.config._attn_implementation
    found.load_state_dict(wanted.state_dict())
    torch.testing.assert_close(found(images), wanted(images), rtol=0, atol=0)
    # A model of ours, whose config somebody has changed.
    restored = restore_backbone(
        replace(found.config, hf_config={**found.config.hf_config, **door}), found.preprocessing
    )
    assert restored.module.config._attn_implementation == wanted.module.config._attn_implementation
    (tmp_path / "clip" / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"post_layernorm.bias": "../outside.safetensors"}}
    (tmp_path / "clip" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="is outside the folder"):
        build_backbone(str(tmp_path / "clip"), pretrained=True)


@pytest.mark.parametrize("argument", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"])
def test_arguments_of_timm_cannot_name_files(argument):
    with pytest.raises(ConfigError, match="cannot be given as model arguments"):
        build_backbone("test_vit", pretrained=False, args={argument: "/somewhere/weights.pth"})


@pytest.mark.long
def test_the_advice_about_pickled_clip_works_to_the_letter(tmp_path):
    save_clip(tmp_path / "clip")
    wanted = build_backbone(str(tmp_path / "clip"), pretrained=True).eval()
    torch.save(wanted.module.state_dict(), tmp_path / "clip" / "pytorch_model.bin")
    (tmp_path / "clip" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="Pickled weights") as caught:
        build_backbone(str(tmp_path / "clip"), pretrained=True)
    command, target = re.search(r"`(python -c .*)`, and give the folder (\S+)$", str(caught.value)).groups()
    subprocess.run([sys.executable, *shlex.split(command)[1:]], check=True, capture_output=True, cwd=tmp_path)
    found = build_backbone(str(tmp_path / target), pretrained=True).eval()
    assert found.preprocessing == wanted.preprocessing
    torch.testing.assert_close(found(images_for(found)), wanted(images_for(found)), rtol=0, atol=0)
