import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from faceattr.data import model_folders as hub
from faceattr.errors import ModelError
from faceattr.models.multitask import MultiAttributeModel
from tests.models.tiny import ATTRIBUTES, build_model


class _Response:
    """As little of an HTTP response as the hub's errors look at."""

    def __init__(self):
        self.headers = {}
        self.request = None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RevisionNotFoundError("no", response=_Response()), "has the model but not this revision"),
        (RepositoryNotFoundError("no", response=_Response()), "has no such public model .*HF_TOKEN"),
        (LocalEntryNotFoundError("no"), "hub cannot be reached.*HF_HOME"),
        (OSError("disk full"), "failed: disk full.*HF_HOME"),
    ],
)
def test_downloads_that_fail(error, message, monkeypatch):
    def refuse(*args, **kwargs):
        raise error

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=rf"'faces/m1' at revision 'v2': .*{message}"):
        MultiAttributeModel.from_pretrained("faces/m1", revision="v2")


def test_only_our_files_are_downloaded(tmp_path, monkeypatch):
    build_model("vit", None).save_pretrained(tmp_path)
    asked = []

    def download(*args, **kwargs):
        asked.append((args, kwargs))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert MultiAttributeModel.from_pretrained("faces/m1").attributes == ATTRIBUTES
    assert asked == [(("faces/m1",), {"revision": None, "allow_patterns": ["config.json", "model.safetensors"]})]


@pytest.mark.parametrize("name", ["/nowhere/m1", "./m1", "a/b/c", "-"])
def test_neither_folder_nor_hub_id(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such folder, and not the form of a Hugging Face hub id"):
        MultiAttributeModel.from_pretrained(name)


def test_a_folder_has_one_name_in_all_working_folders(tmp_path, monkeypatch):
    (tmp_path / "models" / "m1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("./models/m1", "models/m1", "~/models/m1", f"file://{tmp_path}/models/m1", f"{tmp_path}/models/m1"):
        assert hub.absolute_name(name) == str(tmp_path / "models" / "m1"), name
    for name in ("owner/name", "resnet50", "s3://bucket/models/m1", "./models/none"):
        assert hub.absolute_name(name) == name
