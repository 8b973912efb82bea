"""Published layouts against reference modules that are written here from the projects' own descriptions."""

import pytest
import torch
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from faceattr.errors import ModelError
from faceattr.models.legacy import LEGACY_LOADERS, load_fairface_clip, load_utkface_vit
from faceattr.models.multitask import MultiAttributeModel
from tests.models.tiny import VISION, assert_same_outputs, build

AGES_SORTED = sorted(["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"])
AGES = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]
RACES_SORTED = ["Black", "East Asian", "Indian", "Latino_Hispanic", "Middle Eastern", "Southeast Asian", "White"]


class ReferenceClip(nn.Module):
    def __init__(self):
        super().__init__()
        self.vision_model = CLIPVisionModel(CLIPVisionConfig(**VISION))
        self.age_head = nn.Linear(24, 9)
        self.gender_head = nn.Linear(24, 2)
        self.race_head = nn.Linear(24, 7)

    def forward(self, images):
        pooled = self.vision_model(pixel_values=images).pooler_output
        return {"age": self.age_head(pooled), "gender": self.gender_head(pooled), "race": self.race_head(pooled)}


class ReferenceVit(nn.Module):
    def __init__(self, backbone, width):
        super().__init__()
        self.backbone = backbone

        def head(hidden, outputs):
            return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, outputs))

        self.age_head, self.gender_head, self.race_head = head(128, 1), head(64, 1), head(128, 5)

    def forward(self, images):
        features = self.backbone(images)
        return self.age_head(features), self.gender_head(features), self.race_head(features)


@pytest.fixture(autouse=True)
def _seeded():
    """What a network is built with must not depend on the tests before."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _random(module):
    """Weights large enough that every layer moves the outputs."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.eval()


def _images(size=32):
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))


def _transformers4(state):
    """Names as transformers 4 saved them for `self.vision_model = CLIPVisionModel`, with its position numbers."""
    renamed = {name.replace("vision_model.", "vision_model.vision_model.", 1): value for name, value in state.items()}
    return renamed | {"vision_model.vision_model.embeddings.position_ids": torch.arange(17)[None]}


@pytest.mark.parametrize("rename", [dict, _transformers4])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model_state_dict": state, "epoch": 5}])
def test_fairface_clip(tmp_path, rename, wrap):
    reference = _random(ReferenceClip())
    torch.save(wrap(rename(reference.state_dict())), tmp_path / "pytorch_model.bin")
    model = load_fairface_clip(tmp_path, num_attention_heads=2)
    assert not model.training
    assert model.attributes.names == ("age_group", "gender", "race")
    with torch.no_grad():
        theirs, ours = reference(_images()), model(_images())
    for name, their_name, their_classes in (
        ("age_group", "age", AGES_SORTED),
        ("gender", "gender", ["Female", "Male"]),
        ("race", "race", RACES_SORTED),
    ):
        for index, label in enumerate(model.attributes[name].classes):
            wanted = theirs[their_name][:, their_classes.index(label)]
            torch.testing.assert_close(ours[name][:, index], wanted)
    assert list(model.attributes["age_group"].classes) == AGES
    assert AGES_SORTED[3] == "3-9"
    preprocessing = model.backbone.preprocessing
    assert (preprocessing.size_px, preprocessing.interpolation) == (32, "bicubic")
    assert preprocessing.mean[0] == pytest.approx(0.48145466)


def test_fairface_clip_of_its_vision_transformer_and_processor(tmp_path):
    """The model card takes `AutoModel(...).vision_model`, one level less; its own processor counts."""
    reference = _random(ReferenceClip())
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    mean = [0.1, 0.2, 0.3]
    CLIPImageProcessor(size=40, crop_size=32, image_mean=mean).save_pretrained(tmp_path)
    model = load_fairface_clip(tmp_path / "weights.pth", num_attention_heads=2)
    assert model.backbone.preprocessing.mean == (0.1, 0.2, 0.3)
    assert model.backbone.preprocessing.resize_px == 40
    with torch.no_grad():
        wanted = model(_images())
        model.save_pretrained(tmp_path / "m")
        assert_same_outputs(MultiAttributeModel.from_pretrained(tmp_path / "m")(_images()), wanted)


def _torchvision_vit():
    backbone = VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=60, dropout=0.1
    )
    backbone.heads = nn.Identity()
    return backbone


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
def test_utkface_vit(tmp_path, layout):
    backbone = _torchvision_vit() if layout == "torchvision" else build("vit", None).module
    width, num_heads = (24, 2) if layout == "torchvision" else (64, backbone.blocks[0].attn.num_heads)
    reference = _random(ReferenceVit(backbone, width))
    torch.save(reference.state_dict(), tmp_path / "vit_multitask_model.pth")
    model = load_utkface_vit(tmp_path / "vit_multitask_model.pth", num_attention_heads=num_heads)
    with torch.no_grad():
        (age, gender, race), ours = reference(_images()), model(_images())
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(ours["age"], age, **close)
    torch.testing.assert_close(ours["race_group"], race, **close)
    torch.testing.assert_close(ours["gender"], torch.cat([torch.zeros_like(gender), gender], dim=1), **close)
    torch.testing.assert_close(ours["gender"].softmax(1)[:, 1:], gender.sigmoid(), **close)
    assert gender.abs().max() > 0.1
    assert model.attributes["gender"].classes == ("Male", "Female")
    assert model.attributes["race_group"].classes == ("White", "Black", "Asian", "Indian", "Others")
    preprocessing = model.backbone.preprocessing
    assert (preprocessing.crop_mode, preprocessing.interpolation, preprocessing.mean) == (
        "squash",
        "bilinear",
        (0.5, 0.5, 0.5),
    )
    model.save_pretrained(tmp_path / "m")
    with torch.no_grad():
        assert_same_outputs(MultiAttributeModel.from_pretrained(tmp_path / "m")(_images()), ours)


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


def test_files_of_another_layout(tmp_path):
    state = ReferenceClip().state_dict()

    def refused(content, message, loader=load_fairface_clip):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(ModelError, match=message):
            loader(tmp_path / "w.pth", num_attention_heads=2)

    refused(
        {**state, "hat_head.weight": torch.zeros(1, 24)},
        r"'hat_head.weight' is not of this layout. Known names: .*_head",
    )
    refused(
        {name: t for name, t in state.items() if "race_head" not in name},
        "no tensor that becomes 'heads.race_head.weight'",
    )
    refused(
        {**state, "age_head.weight": torch.zeros(7, 24)}, "age_head has 7 classes; expected the 9 of FairFace, sorted"
    )
    refused({name: t for name, t in state.items() if "layers.1.mlp.fc2" not in name}, "missing backbone.module.encoder")
    refused({**state, **_transformers4(state)}, "as another one does")
    refused(state, "is not of this layout", loader=load_utkface_vit)
    vit = ReferenceVit(_torchvision_vit(), 24).state_dict()
    refused(vit, "is not of this layout")
    refused(
        {**vit, "gender_head.3.weight": torch.zeros(2, 64)}, "2 outputs; expected one logit", loader=load_utkface_vit
    )
    positions = {"backbone.encoder.pos_embedding": torch.zeros(1, 16, 24)}
    refused({**vit, **positions}, "16 positions are not a class token and a square", loader=load_utkface_vit)
    refused([1, 2], "expected a state dict .* found list")
    refused({"epoch": 3}, "expected a state dict")
    refused({"weights": _Evil()}, "holds more than tensors and is not loaded")
    (tmp_path / "w.pth").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"w.pth"):
        load_fairface_clip(tmp_path / "w.pth")


def test_folders_without_one_weights_file(tmp_path):
    with pytest.raises(ModelError, match="found no weights; expected one of"):
        load_fairface_clip(tmp_path)
    (tmp_path / "a.pth").touch()
    (tmp_path / "b.pth").touch()
    with pytest.raises(ModelError, match=r"found a.pth, b.pth; name the file"):
        load_utkface_vit(tmp_path)
    assert set(LEGACY_LOADERS) == {"fairface_clip", "utkface_vit"}
