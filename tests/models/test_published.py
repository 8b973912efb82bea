"""Published weights are looked for before anything starts, in the cache first, and without the network if need be."""

import huggingface_hub.constants
import pytest

from faceattr.errors import ConfigError, ModelError
from faceattr.models.backbones.published import check_published_weights


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """A machine without network and with an empty cache; the folder of the cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def keep(hub, repository, file):
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1234")
    (folder / "snapshots" / "1234").mkdir(parents=True)
    (folder / "snapshots" / "1234" / file).write_bytes(b"")


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "hf:openai/clip-vit-base-patch32"])
def test_weights_that_cannot_be_had_are_refused_with_what_to_do(name):
    with pytest.raises(ModelError, match=r"cannot be had.*HF_HOME.*--model.no-pretrained"):
        check_published_weights(name)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_of_timm_in_the_cache_need_no_network(hub, file):
    keep(hub, "timm/resnet18.a1_in1k", file)
    check_published_weights("resnet18")


def test_clip_weights_under_the_other_name_of_timm_are_the_same_file(hub):
    keep(hub, "timm/vit_base_patch32_clip_224.openai", "model.safetensors")
    check_published_weights("vit_base_patch32_clip_224.openai")
    check_published_weights("vit_base_patch32_clip_quickgelu_224.openai")


def test_a_pickle_of_clip_in_the_cache_is_of_no_use(hub):
    keep(hub, "openai/clip-vit-base-patch32", "pytorch_model.bin")
    with pytest.raises(ModelError, match="cannot be had"):
        check_published_weights("hf:openai/clip-vit-base-patch32")
    keep(hub, "openai/clip-vit-large-patch14", "model.safetensors.index.json")
    check_published_weights("hf:openai/clip-vit-large-patch14")


def test_folders_and_addresses_are_looked_into_elsewhere(tmp_path):
    check_published_weights(f"hf:{tmp_path}")
    check_published_weights("hf:s3://models/clip")


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="has no such model; near names are"):
        check_published_weights("resnet51")
