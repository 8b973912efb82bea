"""CLIP weights in OpenAI's layout, as FaRL publishes them, against timm's own reading of the same file."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import checkpoint_filter_fn

from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.names import build_backbone, restore_backbone
from faceattr.models.backbones.published import check_published_weights
from faceattr.models.multitask import MultiAttributeModel
from tests.models.tiny import ATTRIBUTES, assert_same_outputs, images_for
from tests.stores import upload_folder

WIDTH, LAYERS, PATCH, SIDE = 128, 2, 16, 4


def make_weights():
    """A state dict of a whole CLIP, text tower included, with random tensors."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator) * 0.2

    tensors = {
        "visual.class_embedding": random(WIDTH),
        "visual.positional_embedding": random(1 + SIDE**2, WIDTH),
        "visual.conv1.weight": random(WIDTH, 3, PATCH, PATCH),
        "visual.proj": random(WIDTH, 32),
        "text_projection": random(16, 32),
        "token_embedding.weight": random(10, 16),
        "logit_scale": torch.tensor(4.6),
    }
    shapes = {
        "ln_1": WIDTH,
        "ln_2": WIDTH,
        "attn.in_proj_": (3 * WIDTH, WIDTH),
        "attn.out_proj": (WIDTH, WIDTH),
        "mlp.c_fc": (4 * WIDTH, WIDTH),
        "mlp.c_proj": (WIDTH, 4 * WIDTH),
    }
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            weight = shape if isinstance(shape, tuple) else (shape,)
            dot = "" if name.endswith("_") else "."
            stem = f"visual.transformer.resblocks.{layer}.{name}{dot}"
            tensors |= {f"{stem}weight": random(*weight), f"{stem}bias": random(weight[0])}
    for name in ("ln_pre", "ln_post"):
        tensors |= {f"visual.{name}.weight": 1 + random(WIDTH), f"visual.{name}.bias": random(WIDTH)}
    return tensors


def timm_reference(tensors, *, activation="quickgelu_"):
    model = timm.create_model(
        f"vit_base_patch16_clip_{activation}224",
        pretrained=False,
        num_classes=0,
        img_size=PATCH * SIDE,
        depth=LAYERS,
        embed_dim=WIDTH,
        num_heads=WIDTH // 64,
    )
    found = checkpoint_filter_fn(dict(tensors), model)
    model.load_state_dict({name: each for name, each in found.items() if not name.startswith("head.")})
    return model.eval()


@pytest.fixture(params=["farl.pth", "model.safetensors"])
def weights(request, tmp_path):
    tensors = make_weights()
    path = tmp_path / "weights" / request.param
    path.parent.mkdir()
    if path.suffix == ".pth":
        torch.save({"state_dict": tensors, "epoch": 16}, path)
    else:
        save_file(tensors, path)
    return path


def test_features_are_those_of_timm(weights):
    backbone = build_backbone(str(weights), pretrained=True).eval()
    images = images_for(backbone)
    wanted = timm_reference(make_weights())(images)
    torch.testing.assert_close(backbone(images), wanted, rtol=1e-4, atol=1e-4)
    assert (backbone.num_features, backbone.num_blocks, backbone.config.image_size) == (WIDTH, LAYERS + 1, 64)
    assert backbone.preprocessing.mean == timm.data.OPENAI_CLIP_MEAN
    assert (backbone.preprocessing.size_px, backbone.preprocessing.interpolation) == (64, "bicubic")
    for name in (str(weights.parent), f"hf:{weights.parent}", f"hf:{weights}"):
        again = build_backbone(name, pretrained=True).eval()
        torch.testing.assert_close(again(images), backbone(images), rtol=0, atol=0)
    check_published_weights(str(weights))


def test_weights_that_were_trained_with_gelu_say_so(weights):
    backbone = build_backbone(str(weights), pretrained=True, args={"hidden_act": "gelu"}).eval()
    images = images_for(backbone)
    wanted = timm_reference(make_weights(), activation="")(images)
    torch.testing.assert_close(backbone(images), wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="take hidden_act alone, quick_gelu or gelu"):
        build_backbone(str(weights), pretrained=True, args={"depth": 3})


def test_random_weights_another_size_and_back(weights, tmp_path):
    backbone = build_backbone(str(weights), pretrained=True, image_size=32).eval()
    images = images_for(backbone)
    assert backbone(images).shape == (2, WIDTH)
    restored = restore_backbone(backbone.config, backbone.preprocessing).eval()
    restored.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(restored(images), backbone(images), rtol=0, atol=0)
    random = build_backbone(str(weights), pretrained=False)
    assert random.config.hf_config == build_backbone(str(weights), pretrained=True).config.hf_config
    model = MultiAttributeModel(backbone, ATTRIBUTES).eval()
    model.save_pretrained(tmp_path / "model")
    assert_same_outputs(MultiAttributeModel.from_pretrained(tmp_path / "model")(images), model(images))


def test_weights_behind_a_uri(weights, s3_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("FACEATTR_CACHE", str(tmp_path / "cache"))
    upload_folder(weights.parent, s3_uri)
    local = build_backbone(str(weights), pretrained=True).eval()
    images = images_for(local)
    assert torch.equal(build_backbone(f"hf:{s3_uri}", pretrained=True).eval()(images), local(images))


def test_files_that_are_not_such_weights(tmp_path):
    tensors = make_weights()

    def saved(name, content):
        (tmp_path / name).mkdir()
        torch.save(content, tmp_path / name / "weights.pt")
        return str(tmp_path / name)

    cases = [
        (saved("other", {"fc.weight": torch.zeros(1)}), "found no config.json .*fc.weight"),
        (saved("resnet", {**tensors, "visual.layer1.0.conv1.weight": torch.zeros(1)}), "its ResNets are in timm"),
        (saved("code", {"model": torch.nn.Linear(1, 1)}), "holds more than tensors"),
        (saved("part", {k: v for k, v in tensors.items() if "ln_post" not in k}), "missing.*post_layernorm"),
        (saved("bare", {k: v for k, v in tensors.items() if "resblocks" not in k}), "the file is incomplete"),
    ]
    for folder, message in cases:
        with pytest.raises(ModelError, match=message):
            build_backbone(folder, pretrained=True)
    saved("two", tensors)
    torch.save(tensors, tmp_path / "two" / "other.pth")
    with pytest.raises(ModelError, match=r"other\.pth, weights\.pt; name the file to load"):
        build_backbone(str(tmp_path / "two"), pretrained=True)
