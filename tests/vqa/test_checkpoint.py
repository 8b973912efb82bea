import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from faceattr.config import LabelConfig
from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.blip.checkpoint import load_blip
from faceattr.vqa.blip.inspect import compute_weights_id
from faceattr.vqa.blip.oracle.modules import load_hf_blip
from faceattr.vqa.blip.oracle.reference import HfScorer
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.checkpoints import CheckpointFacts
from faceattr.vqa.engines import ENGINES, check_options, inspect_checkpoint
from faceattr.vqa.questions import VqaQuestion


@pytest.fixture
def folder(checkpoint_folders, tmp_path):
    """A checkpoint of one's own to break."""
    return shutil.copytree(checkpoint_folders["small"], tmp_path / "checkpoint")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_loads_a_local_folder(folder):
    checkpoint = load_blip(str(folder))
    assert checkpoint.name == str(folder)
    assert checkpoint.revision is None
    assert re.fullmatch("[0-9a-f]{64}", checkpoint.weights_id)
    assert checkpoint.preprocessing.size_px == 32
    assert checkpoint.architecture.text.layers == 3
    reference = load_hf_blip(str(folder))
    assert reference.size_px == 32
    assert not reference.model.training
    assert {parameter.dtype for parameter in reference.model.parameters()} == {torch.float32}


def test_half_precision_weights_are_widened(folder, draw_images):
    weights = folder / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    edit_json(folder / "config.json", dtype="float16")
    question = [VqaQuestion("a hat ?", ("yes", "no"))]
    packed = BlipScorer(load_blip(str(folder)), question, device="cpu")
    plain = HfScorer(load_hf_blip(str(folder)), question, device="cpu")
    assert packed.dtype == torch.float32
    images = draw_images(2, 32)
    np.testing.assert_allclose(packed.score(images), plain.score(images), atol=1e-4, rtol=0)


def test_weights_id_follows_what_is_read(folder, tmp_path):
    before = compute_weights_id(folder)
    (folder / "README.md").write_text("not read")
    assert compute_weights_id(shutil.copytree(folder, tmp_path / "elsewhere")) == before
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    changed = compute_weights_id(folder)
    assert changed != before
    edit_json(folder / "preprocessor_config.json", resample=2)
    assert compute_weights_id(folder) not in (before, changed)


def test_the_folder_of_a_hub_cache_names_its_commit(folder, tmp_path):
    snapshot = tmp_path / "hub" / "models--a--b" / "snapshots" / ("0123456789" * 4)
    shutil.copytree(folder, snapshot)
    commit = load_blip(str(snapshot)).revision
    assert commit == "0123456789" * 4
    # A worker that is told folder and revision finds the same.
    assert load_blip(str(snapshot), revision=commit).revision == commit


def test_inspecting_finds_what_loading_finds(folder):
    checkpoint = load_blip(str(folder))
    size_px = checkpoint.preprocessing.size_px
    facts = inspect_checkpoint(str(folder))
    assert facts == CheckpointFacts(
        model_type="blip",
        revision=None,
        weights_id=checkpoint.weights_id,
        size_px=size_px,
        resizing=size_px,
        gflop_image=facts.gflop_image,
        gflop_question=facts.gflop_question,
    )
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors"):
        inspect_checkpoint(str(folder))


def test_other_models_are_refused(folder):
    edit_json(folder / "config.json", architectures=["BlipForConditionalGeneration"])
    with pytest.raises(
        ModelError, match=r"BlipForQuestionAnswering.*BlipForConditionalGeneration.*blip-vqa-base is one"
    ):
        load_blip(str(folder))
    edit_json(folder / "config.json", model_type="vit", architectures=None)
    with pytest.raises(ModelError, match="model_type='vit'"):
        load_blip(str(folder))


def test_broken_and_missing_config(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not readable as JSON"):
        load_blip(str(folder))
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_blip(str(folder))


def test_pickled_weights_are_never_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no model.safetensors. Pickled weights .* convert them once"):
        load_blip(str(folder))


def test_truncated_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for load in (load_blip, load_hf_blip):
        with pytest.raises(ModelError, match="weights cannot be loaded"):
            load(str(folder))


def test_missing_and_misshapen_tensors_are_not_filled_with_random_numbers(folder):
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    name = "text_encoder.encoder.layer.0.attention.self.query.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, weights, metadata={"format": "pt"})
    for load in (load_blip, load_hf_blip):
        with pytest.raises(ModelError, match=re.escape(f"1 tensors of the model are not in the weights, '{name}'")):
            load(str(folder))
    save_file(tensors | {name: torch.zeros(3, 3)}, weights, metadata={"format": "pt"})
    for load in (load_blip, load_hf_blip):
        with pytest.raises(ModelError, match="weights cannot be loaded"):
            load(str(folder))
    with pytest.raises(ModelError, match=re.escape(f"'{name}' has the shape [3, 3], config.json says [48, 48]")):
        load_blip(str(folder))


def test_tensors_of_another_model_are_named(folder):
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    extra = {"text_encoder.pooler.dense.weight": torch.zeros(2), "itm_head.weight": torch.zeros(2)}
    save_file(tensors | extra, weights, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"2 tensors in the weights are not of the model, 'itm_head.weight', 'text_encoder.pooler"
    ):
        load_blip(str(folder))


def test_buffers_of_older_checkpoints_are_ignored_and_tied_tensors_stand_under_either_name(folder):
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    words, head = "text_decoder.bert.embeddings.word_embeddings.weight", "text_decoder.cls.predictions.decoder.weight"
    assert (words in tensors) != (head in tensors)
    expected = load_blip(str(folder)).tensors
    matrix = tensors.pop(words, None) if words in tensors else tensors.pop(head)
    positions = {"text_encoder.embeddings.position_ids": torch.arange(40)[None]}
    for names in ((words,), (head,), (words, head)):
        stored = tensors | positions | {name: matrix.clone() for name in names}
        save_file(stored, weights, metadata={"format": "pt"})
        found = load_blip(str(folder)).tensors
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("text_config", {"hidden_act": "relu"}, r"text_config.hidden_act is 'relu', the packed engine .* 'gelu' only"),
        ("text_config", {"num_attention_heads": 5}, "text_config: 5 attention heads do not divide a width of 48"),
        ("vision_config", {"image_size": [32, 32]}, "expected numbers for the sizes"),
    ],
)
def test_configs_that_the_packed_engine_cannot_run(folder, section, changes, message):
    config = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", **{section: config[section] | changes})
    with pytest.raises(ModelError, match=message):
        load_blip(str(folder))


def test_a_tokenizer_of_another_model_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", text_config=config["text_config"] | {"sep_token_id": 4})
    with pytest.raises(ModelError, match=r"\[SEP\] is token 3 in the tokenizer and 4 in the model's"):
        load_blip(str(folder))


def test_a_decoder_start_outside_the_vocabulary_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", text_config=config["text_config"] | {"bos_token_id": 30522})
    with pytest.raises(ModelError, match=r"bos_token_id is 30522, the model embeds \d+ tokens"):
        load_blip(str(folder))


def test_a_missing_tokenizer_is_refused(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer.json or vocab.txt, found neither"):
        load_blip(str(folder))


def test_a_vocabulary_without_tokenizer_json_gives_the_same_tokens(folder):
    expected = load_hf_blip(str(folder)).tokenizer
    tokens = sorted(expected.get_vocab(), key=expected.get_vocab().get)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    text = "Is the light reddish hat there?"
    assert expected.unk_token_id not in expected.encode(text)
    for load in (load_blip, load_hf_blip):
        assert load(str(folder)).tokenizer.encode(text) == expected.encode(text)


def test_an_image_processor_of_another_size_is_refused(folder):
    edit_json(folder / "preprocessor_config.json", size={"height": 64, "width": 64})
    with pytest.raises(ModelError, match=r"the model takes images of 32 px, its image processor makes 64 px"):
        load_blip(str(folder))


def split_weights(folder, first, second):
    """The folder's weights in two files that an index names, in place of one."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    halves = {first: names[: len(names) // 2], second: names[len(names) // 2 :]}
    for file, part in halves.items():
        save_file({name: tensors[name].contiguous() for name in part}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, part in halves.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "model.safetensors").unlink()


def test_weights_in_several_files_are_read_and_hashed_all(folder):
    whole, plain = load_blip(str(folder)).tensors, load_hf_blip(str(folder)).model.state_dict()
    split_weights(folder, "model-00001-of-00002.safetensors", "rest.safetensors")
    for before, after in (
        (whole, load_blip(str(folder)).tensors),
        (plain, load_hf_blip(str(folder)).model.state_dict()),
    ):
        assert list(after) == list(before)
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    before = compute_weights_id(folder)
    for file in ("model-00001-of-00002.safetensors", "rest.safetensors"):
        data = bytearray((folder / file).read_bytes())
        data[-1] ^= 1
        (folder / file).write_bytes(data)
        assert compute_weights_id(folder) != before
        before = compute_weights_id(folder)


@pytest.mark.parametrize("name", ["weights.bin", "../outside.safetensors"])
def test_an_index_that_leads_out_of_the_folder_is_refused_by_driver_and_worker(folder, name):
    split_weights(folder, "model-00001-of-00002.safetensors", "rest.safetensors")
    (folder / "rest.safetensors").rename(folder / name)
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("rest.safetensors", name))
    for read in (load_blip, load_hf_blip, inspect_checkpoint):
        with pytest.raises(ModelError, match="expected safetensors files inside the folder"):
            read(str(folder))


def test_a_config_cannot_name_code_for_attention(folder):
    config = json.loads((folder / "config.json").read_text())
    door = "kernels-community/flash-attn2"
    wanted = load_hf_blip(str(folder))
    edit_json(
        folder / "config.json",
        _attn_implementation=door,
        attn_implementation=door,
        text_config=config["text_config"] | {"_attn_implementation": door},
        vision_config=config["vision_config"] | {"_attn_implementation": door},
        transformers_weights="../outside.safetensors",
    )
    model = load_hf_blip(str(folder)).model
    for ours, theirs in (
        (model.config, wanted.model.config),
        (model.config.text_config, wanted.model.config.text_config),
    ):
        assert ours._attn_implementation == theirs._attn_implementation != door


@pytest.mark.slow
def test_the_advice_about_pickles_works_to_the_letter(folder, tmp_path, monkeypatch):
    wanted, plain = load_blip(str(folder)), load_hf_blip(str(folder)).model
    torch.save(plain.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError) as caught:
        load_blip(str(folder))
    command, target = re.search(r"`(python -c .*)`, and give the folder (\S+)$", str(caught.value)).groups()
    words = shlex.split(command)
    subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, cwd=tmp_path)
    found = load_blip(str(tmp_path / target))
    assert all(torch.equal(found.tensors[name], each) for name, each in wanted.tensors.items())
    assert found.preprocessing == wanted.preprocessing
    assert found.tokenizer.encode("a hat ?") == wanted.tokenizer.encode("a hat ?")


def test_flags_that_a_family_does_not_take_are_refused(monkeypatch):
    row = replace(ENGINES["blip"], options={"precision": ("auto", "float32"), "agreement": (False,)})
    monkeypatch.setitem(ENGINES, "blip", row)
    check_options(LabelConfig(images="a", output="b"), "blip")
    with pytest.raises(ConfigError, match="--precision: expected auto or float32 for a blip model, found fp8"):
        check_options(LabelConfig(images="a", output="b", precision="fp8"), "blip")
    with pytest.raises(ConfigError, match="--agreement: expected False for a blip model, found True"):
        check_options(LabelConfig(images="a", output="b", agreement=True), "blip")
