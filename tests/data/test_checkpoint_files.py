"""A checkpoint's weights are safetensors inside its folder; its config says a shape, and nothing that loads code."""

import json

import pytest

from faceattr.data.checkpoint_files import HF_WEIGHTS_FILE, WEIGHTS_INDEX_FILE, clean_config, find_weight_files
from faceattr.errors import ModelError

CLASSES = ("SomeModel", "SomeProcessor")


def write_index(folder, *names):
    folder.mkdir(exist_ok=True)
    (folder / WEIGHTS_INDEX_FILE).write_text(
        json.dumps({"weight_map": {f"t{n}": name for n, name in enumerate(names)}})
    )
    return folder


def test_the_files_that_an_index_names_are_found(tmp_path):
    folder = write_index(tmp_path / "model", "b.safetensors", "a.safetensors", "a.safetensors", "more/c.safetensors")
    (folder / "more").mkdir()
    for name in ("a.safetensors", "b.safetensors", "more/c.safetensors"):
        (folder / name).write_bytes(b"")
    found = find_weight_files(folder, classes=CLASSES)
    assert [path.relative_to(folder).as_posix() for path in found] == [
        "a.safetensors",
        "b.safetensors",
        "more/c.safetensors",
    ]
    (folder / HF_WEIGHTS_FILE).write_bytes(b"")
    assert find_weight_files(folder, classes=CLASSES) == (folder / HF_WEIGHTS_FILE,)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("weights.bin", "is not a safetensors file"),
        ("model.safetensors.pkl", "is not a safetensors file"),
        ("../outside.safetensors", "is outside the folder"),
        ("more/../../outside.safetensors", "is outside the folder"),
        ("..\\outside.safetensors", "is outside the folder"),
        ("ABSOLUTE/outside.safetensors", "is outside the folder"),
        ("link.safetensors", "is a link out of the folder"),
        ("linked/outside.safetensors", "is a link out of the folder"),
        ("folder.safetensors", "is not a file"),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_an_index_that_names_anything_else_is_refused(tmp_path, name, problem, whole):
    (tmp_path / "elsewhere").mkdir()
    for place in (tmp_path, tmp_path / "elsewhere"):
        (place / "outside.safetensors").write_bytes(b"")
    name = name.replace("ABSOLUTE", str(tmp_path))
    folder = write_index(tmp_path / "model", "good.safetensors", name)
    (folder / "good.safetensors").write_bytes(b"")
    (folder / "weights.bin").write_bytes(b"")
    (folder / "more").mkdir()
    (folder / "folder.safetensors").mkdir()
    (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    if whole:  # which is read, but the folder is then not what it says
        (folder / HF_WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(ModelError, match=f"{WEIGHTS_INDEX_FILE}: names .*{problem}.*expected safetensors files inside"):
        find_weight_files(folder, classes=CLASSES)


def test_a_file_that_is_missing_is_refused_where_it_would_be_read(tmp_path):
    folder = write_index(tmp_path / "model", "gone.safetensors")
    with pytest.raises(ModelError, match=r"names 'gone.safetensors', which is not there"):
        find_weight_files(folder, classes=CLASSES)
    (folder / HF_WEIGHTS_FILE).write_bytes(b"")
    assert find_weight_files(folder, classes=CLASSES) == (folder / HF_WEIGHTS_FILE,)


@pytest.mark.parametrize(
    "content",
    ["[]", '{"weight_map": {"a": 7, "b": "c"}}', "{", '{"weight_map": []}', '{"weight_map": {"a": ["b"]}}', '"x"'],
)
def test_a_damaged_index_is_refused(tmp_path, content):
    (tmp_path / WEIGHTS_INDEX_FILE).write_text(content)
    with pytest.raises(ModelError, match="expected weight_map"):
        find_weight_files(tmp_path, classes=CLASSES)


def test_links_of_the_hubs_cache_lead_to_its_blobs_and_no_further(tmp_path):
    model = tmp_path / "models--owner--name"
    folder = model / "snapshots" / "1234"
    folder.mkdir(parents=True)
    write_index(folder, "a.safetensors")
    (model / "blobs").mkdir()
    (model / "blobs" / "abcd").write_bytes(b"")
    (folder / "a.safetensors").symlink_to("../../blobs/abcd")
    assert find_weight_files(folder, classes=CLASSES) == (folder / "a.safetensors",)
    (tmp_path / "outside").write_bytes(b"")
    (folder / "a.safetensors").unlink()
    (folder / "a.safetensors").symlink_to("../../../outside")
    with pytest.raises(ModelError, match="is a link out of the folder"):
        find_weight_files(folder, classes=CLASSES)


def test_pickles_come_with_advice(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        find_weight_files(tmp_path, classes=CLASSES)
    assert f"SomeModel.from_pretrained('{tmp_path}').save_pretrained('{tmp_path.name}-safetensors')" in str(
        caught.value
    )
    assert "SomeProcessor.from_pretrained" in str(caught.value)
    assert "refs/pr" not in str(caught.value)  # a folder has no pull requests
    folder = tmp_path / "models--owner--name" / "snapshots" / "1234"
    folder.mkdir(parents=True)
    with pytest.raises(ModelError) as caught:
        find_weight_files(folder, classes=CLASSES)
    assert "--revision refs/pr/N" in str(caught.value)
    assert "SomeModel.from_pretrained('owner/name').save_pretrained('name-safetensors')" in str(caught.value)


def test_a_config_does_not_say_how_attention_is_computed_or_what_is_loaded(tmp_path):
    door = "kernels-community/flash-attn"
    content = {
        "model_type": "blip",
        "_attn_implementation": door,
        "transformers_weights": "../outside.safetensors",
        "text_config": {"attn_implementation": door, "hidden_size": 8, "deeper": [{"auto_map": {"AutoModel": "x.y"}}]},
    }
    assert clean_config(content, tmp_path / "config.json") == {
        "model_type": "blip",
        "text_config": {"hidden_size": 8, "deeper": [{}]},
    }
    with pytest.raises(ModelError, match="quantised"):
        clean_config({**content, "quantization_config": {"quant_method": "bitsandbytes"}}, tmp_path / "config.json")
