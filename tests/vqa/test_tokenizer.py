"""Our tokenizer against transformers' own, on the files that checkpoints come with."""

import json
import shutil

import pytest
from transformers import BertTokenizer

from faceattr.errors import ModelError
from faceattr.vqa.blip.network.architecture import read_architecture
from faceattr.vqa.blip.tokenizer import load_tokenizer
from faceattr.vqa.checkpoints import read_checkpoint_config, resolve_checkpoint
from faceattr.vqa.question_files import load_question_set

TEXTS = [
    "Is the light reddish hat there?",
    "  Wéaring\tGLASSES ,  or\nnot?! ",
    "hat_glasses [DEC] hat [SEP] [ENC] [unk]",
    "\u5e3d\u5b50 a hat \u0000\ufffd\u200b",
    "isn't 3.14 very-young",
    "x" * 120,
    "",
]


def layouts(folder, name):
    """Changes a checkpoint's tokenizer files to another layout that transformers reads as well."""
    tokens = json.loads((folder / "tokenizer.json").read_text())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    vocabulary = tokens["model"]["vocab"]
    if name == "vocab.txt":
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.get)))
    elif name == "added":  # as published: [DEC] and [ENC] follow the vocabulary
        last = max(vocabulary.values()) - 1
        assert {vocabulary.pop("[DEC]"), vocabulary.pop("[ENC]")} == {last, last + 1}
        (folder / "tokenizer.json").write_text(json.dumps(tokens))
    elif name == "cased":
        config |= {"do_lower_case": False, "strip_accents": True}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    elif name == "objects":
        flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
        config["bos_token"] = {"__type": "AddedToken", "content": "[DEC]", **flags}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("layout", ["tokenizer.json", "vocab.txt", "added", "cased", "objects"])
def test_ids_are_those_of_transformers(checkpoint_folders, tmp_path, layout):
    folder = shutil.copytree(checkpoint_folders["small"], tmp_path / "checkpoint")
    layouts(folder, layout)
    theirs = BertTokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder, read_architecture(read_checkpoint_config(folder), folder))
    assert len(ours) == len(theirs)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text), text
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text, add_special_tokens=False), text
    for token in ("[DEC]", "[ENC]", "[SEP]", "hat", "unheard-of"):
        assert ours.convert_tokens_to_ids(token) == theirs.convert_tokens_to_ids(token), token
    assert (ours.unk_token_id, ours.sep_token_id) == (theirs.unk_token_id, theirs.sep_token_id)


def test_the_tiny_checkpoint_reads_its_questions_as_transformers_does():
    folder = resolve_checkpoint("tiny")
    theirs = BertTokenizer.from_pretrained(folder)
    ours = load_tokenizer(folder, read_architecture(read_checkpoint_config(folder), folder))
    questions = load_question_set("clear_face").vqa_questions()
    for question in questions:
        for text in (question.text, *question.answers):
            assert ours.encode(text) == theirs.encode(text)
    assert questions


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {}}', '{"model": {"vocab": {"a": 0}}, "added_tokens": [1]}'])
def test_broken_files_are_an_error(checkpoint_folders, tmp_path, content):
    folder = shutil.copytree(checkpoint_folders["small"], tmp_path / "checkpoint")
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
        load_tokenizer(folder, read_architecture(read_checkpoint_config(folder), folder))
