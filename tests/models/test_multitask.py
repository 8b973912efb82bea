import json
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from faceattr.attributes import Attribute, AttributeSet
from faceattr.errors import ConfigError, ModelError
from faceattr.models.heads import NUM_YEARS, HeadConfig, build_head, count_outputs, head_configs
from faceattr.models.multitask import MultiAttributeModel
from tests.models.tiny import ATTRIBUTES, assert_same_outputs, build, build_model, images_for, save_clip
from tests.stores import upload_folder


def test_outputs_follow_the_kinds():
    model = build_model("vit", None).eval()
    images = images_for(model.backbone, num=3)
    outputs = model(images)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "hat": (3, 1),
        "clear": (3, 1),
        "age_group": (3, 3),
        "age": (3, 117),
        "person": (3, 4),
    }
    assert list(outputs) == list(ATTRIBUTES.names)
    features = model.backbone(images)
    torch.testing.assert_close(outputs["hat"], nn.functional.linear(features, *model.head("hat").parameters()))


def test_head_shapes_of_the_seeds():
    attributes = AttributeSet(
        attributes=(
            Attribute(name="age", kind="age", classes=()),
            Attribute(name="gender"),
            Attribute(name="race_group", kind="multiclass", classes=tuple("abcde")),
        )
    )

    def shapes(preset):
        configs = head_configs(preset, attributes)
        heads = [build_head(item, configs[item.name], 768) for item in attributes.attributes]
        return [[str(layer) for layer in head] if isinstance(head, nn.Sequential) else str(head) for head in heads]

    def linear(inputs, outputs):
        return f"Linear(in_features={inputs}, out_features={outputs}, bias=True)"

    gelu, relu = "GELU(approximate='none')", "ReLU()"
    assert shapes("utkface_vit") == [
        [linear(768, hidden), gelu, "Dropout(p=0.1, inplace=False)", linear(hidden, outputs)]
        for hidden, outputs in ((128, 1), (64, 1), (128, 5))
    ]
    assert shapes("celeba4")[1] == [linear(768, 512), relu, "Dropout(p=0.5, inplace=False)", linear(512, 1)]
    assert shapes("linear") == [linear(768, NUM_YEARS), linear(768, 1), linear(768, 5)]
    with pytest.raises(ConfigError, match="did you mean 'linear'"):
        head_configs("liner", attributes)


def test_impossible_heads():
    for values, message in (
        ({"hidden": (0,)}, "at least one unit"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"activation": "tanh"}, "relu or gelu"),
        ({"age_output": "bins"}, "regression or distribution"),
    ):
        with pytest.raises(ConfigError, match=message):
            HeadConfig(**values)
    with pytest.raises(ConfigError, match="at least two persons"):
        count_outputs(Attribute(name="person", kind="identity", classes=("p1",)), HeadConfig())
    with pytest.raises(ConfigError, match=r"expected one for each of \['hat'"):
        build_model("vit", None, heads={"hat": HeadConfig()})


def test_pixels_are_refused():
    model = build_model("vit", None)
    with pytest.raises(ValueError, match=r"torch.uint8.*Normalise"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("family", ["resnet", "vit_clip", "vgg", "clip"])
def test_a_saved_model_comes_back_equal(family, tmp_path, clip_folder):
    heads = dict.fromkeys(ATTRIBUTES.names, HeadConfig(hidden=(8,), dropout=0.2, age_output="regression"))
    thresholds, calibration = {"hat": 0.375, "bare": 0.5}, {"hat": {"method": "temperature", "temperature": 1.3}}
    model = build_model(family, clip_folder, heads=heads, thresholds=thresholds, calibration=calibration)
    images = images_for(model.backbone)
    model.train()
    model(images)  # batch-norm statistics are part of the weights
    model.eval()
    model.save_pretrained(tmp_path / "m")
    loaded = MultiAttributeModel.from_pretrained(tmp_path / "m", expected=ATTRIBUTES)
    assert not loaded.training
    assert loaded.attributes == ATTRIBUTES
    assert loaded.attributes["person"].classes == ("p7", "p10", "p9", "p1")
    assert (loaded.thresholds, loaded.calibration, loaded.head_configs) == (thresholds, calibration, heads)
    assert loaded.backbone.preprocessing == model.backbone.preprocessing
    assert loaded.backbone.config == model.backbone.config
    assert_same_outputs(loaded(images), model(images))
    content = json.loads((tmp_path / "m" / "config.json").read_text())
    assert content["schema_version"] == 1
    assert set(content["library_versions"]) == {"faceattr", "torch", "torchvision", "timm", "transformers"}
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]


def test_clip_model_needs_no_second_look_at_its_hub(tmp_path):
    save_clip(tmp_path / "clip")
    model = MultiAttributeModel(build("clip", tmp_path / "clip"), ATTRIBUTES).eval()
    model.save_pretrained(tmp_path / "m")
    shutil.rmtree(tmp_path / "clip")
    images = images_for(model.backbone)
    assert_same_outputs(MultiAttributeModel.from_pretrained(tmp_path / "m")(images), model(images))


def test_object_storage_and_revisions(tmp_path, s3_uri, monkeypatch):
    monkeypatch.setenv("FACEATTR_CACHE", str(tmp_path / "cache"))
    model = build_model("vit", None)
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("not read, so not downloaded")
    upload_folder(tmp_path / "m", s3_uri)
    assert MultiAttributeModel.from_pretrained(s3_uri).attributes == ATTRIBUTES
    (copy,) = (tmp_path / "cache").iterdir()
    assert sorted(path.name for path in copy.iterdir()) == ["config.json", "model.safetensors"]
    with pytest.raises(ConfigError, match="for hub ids only"):
        MultiAttributeModel.from_pretrained(tmp_path / "m", revision="main")
    with pytest.raises(ModelError, match="no such folder"):
        MultiAttributeModel.from_pretrained(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="into a local folder"):
        model.save_pretrained("s3://models/m")


def test_nothing_is_overwritten(tmp_path):
    model = build_model("vit", None)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        model.save_pretrained(tmp_path)


def test_what_cannot_be_saved(tmp_path):
    for change, message in (
        ({"thresholds": {"hot": 0.5}}, "'hot' is none of"),
        ({"thresholds": {"age_group": 0.5}}, "'age_group' is none of"),
        ({"thresholds": {"hat": 1.5}}, "expected a score from 0 to 1"),
        ({"thresholds": {"hat": float("nan")}}, "expected a score from 0 to 1"),
        ({"calibration": {"hot": {}}}, "are none of"),
        ({"calibration": {"hat": {"map": {1, 2}}}}, "JSON cannot hold"),
    ):
        model = build_model("vit", None, **change)
        with pytest.raises(ConfigError, match=message):
            model.save_pretrained(tmp_path / "m")
    assert not (tmp_path / "m").exists()


def _with(attributes, index, **change):
    changed = list(attributes.attributes)
    changed[index] = replace(changed[index], **change)
    return AttributeSet(attributes=tuple(changed))


def test_attributes_that_differ(tmp_path):
    build_model("vit", None).save_pretrained(tmp_path)

    def load(expected):
        return MultiAttributeModel.from_pretrained(tmp_path, expected=expected)

    load(AttributeSet(attributes=ATTRIBUTES.attributes[2:3]))
    sorted_classes = ("0-2", "10-19", "3-9")
    with pytest.raises(ModelError, match="first difference is at index 1: '3-9' instead of '10-19'"):
        load(_with(ATTRIBUTES, 2, classes=sorted_classes))
    with pytest.raises(ModelError, match=r"4 classes, expected 5; .* index 4: nothing instead of 'p2'"):
        load(_with(ATTRIBUTES, 4, classes=("p7", "p10", "p9", "p1", "p2")))
    with pytest.raises(ModelError, match="'age' is age, expected binary"):
        load(_with(ATTRIBUTES, 3, kind="binary", classes=("no", "yes")))
    with pytest.raises(ModelError, match="has no attribute 'beard', only hat, clear"):
        load(_with(ATTRIBUTES, 0, name="beard"))


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was executed",))


def test_folders_that_are_not_ours(tmp_path):
    build_model("vit", None).save_pretrained(tmp_path / "good")

    def damaged(name):
        shutil.copytree(tmp_path / "good", tmp_path / name)
        return tmp_path / name

    def edit(name, **values):
        folder = damaged(name)
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**content, **values}))
        return folder

    def refused(folder, message):
        with pytest.raises(ModelError, match=message):
            MultiAttributeModel.from_pretrained(folder)

    refused(edit("bert", model_type="bert"), "found 'bert'")
    refused(edit("later", schema_version=2), "schema_version is 2, this faceattr .* reads 1; it was written by")
    refused(edit("heads", heads={}), "config.json: heads: expected one for each")
    refused(edit("attributes", attributes=[{"name": "hat"}]), "damaged: KeyError 'kind'")
    refused(edit("backbone", backbone={"name": "test_vit"}), "damaged: TypeError")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "found no config.json")
    (tmp_path / "empty" / "model.pth").touch()
    refused(tmp_path / "empty", "model.pth of another project: see faceattr.models.legacy")
    folder = damaged("pickle")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin is a pickle, which can run code and is not loaded")
    (folder / "model.safetensors").write_bytes(pickle.dumps(_Evil()))
    refused(folder, "not readable as safetensors")


def test_weights_that_do_not_fit(tmp_path):
    model = build_model("vit", None)
    model.save_pretrained(tmp_path / "a")
    build_model("vit", None, heads="mlp").save_pretrained(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "model.safetensors", tmp_path / "a")
    with pytest.raises(ModelError, match=r"missing heads.hat_head.weight, .* unknown heads.* \(20 in all\)"):
        MultiAttributeModel.from_pretrained(tmp_path / "a")
    other = _with(ATTRIBUTES, 2, classes=("a", "b", "c", "d"))
    build_model("vit", None, attributes=other).save_pretrained(tmp_path / "c")
    shutil.copy(tmp_path / "c" / "config.json", tmp_path / "a")
    model.save_pretrained(tmp_path / "d")
    shutil.copy(tmp_path / "d" / "model.safetensors", tmp_path / "a")
    with pytest.raises(ModelError, match=r"'heads.age_group_head.weight' is \[3, 64\], expected \[4, 64\]"):
        MultiAttributeModel.from_pretrained(tmp_path / "a")
