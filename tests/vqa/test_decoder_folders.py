"""Checkpoints of decoders as folders: what their image processors make, what is read, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.decoder.checkpoint import load_decoder
from faceattr.vqa.decoder.inspect import inspect_decoder
from faceattr.vqa.decoder.preprocess import resize_square
from faceattr.vqa.decoder.prompts import prompt_questions
from faceattr.vqa.decoder.reference import PlainDecoder
from faceattr.vqa.decoder.scorer import DecoderScorer
from faceattr.vqa.decoder.square import SquareImage
from faceattr.vqa.engines import inspect_checkpoint
from faceattr.vqa.questions import VqaQuestion
from tests.decoder_checkpoints import save_random_decoder

QUESTION = VqaQuestion("hat?", ("no", "yes"))
FAMILIES = ("smolvlm", "idefics3", "internvl", "qwen2_vl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("decoders")
    return {name: save_random_decoder(root / name, name) for name in FAMILIES}


@pytest.fixture(scope="module")
def checkpoints(folders):
    return {name: load_decoder(folder) for name, folder in folders.items()}


@pytest.fixture
def folder(folders, tmp_path):
    """A SmolVLM checkpoint to spoil."""
    return shutil.copytree(folders["smolvlm"], tmp_path / "smolvlm")


def edit(path, **changes):
    """Sets keys of a JSON file; None removes one, and `a.b` is a key of a section."""
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *sections, key = name.split(".")
        place = content
        for section in sections:
            place = place[section]
        if value is None:
            place.pop(key, None)
        else:
            place[key] = value
    path.write_text(json.dumps(content))


def as_on_the_hub(folder):
    """Moves settings and template to the files in which most published checkpoints have them."""
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(processor.pop("image_processor")))
    processor.pop("video_processor", None)
    (folder / "processor_config.json").write_text(json.dumps(processor))
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()


SQUARES = {
    "smolvlm": SquareImage(size_px=32, mode="lanczos", longest_edge_px=32),
    "idefics3": SquareImage(size_px=32, mode="lanczos", longest_edge_px=32),
    "internvl": SquareImage(size_px=32, mode="bicubic"),
    "qwen2_vl": SquareImage(size_px=64, mode="bicubic"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_facts(folders, family):
    facts = inspect_checkpoint(str(folders[family]))
    assert (facts.model_type, facts.revision, facts.size_px) == (family, None, SQUARES[family].size_px)
    assert facts.resizing == SQUARES[family]


@pytest.mark.parametrize("shape", [(37, 53), (300, 41), (20, 400), (32, 32), (64, 64)])
@pytest.mark.parametrize("family", ["smolvlm", "idefics3", "internvl"])
def test_squares_are_bit_equal_to_what_the_processor_makes(checkpoints, family, shape):
    checkpoint = checkpoints[family]
    image = np.random.default_rng(1).integers(0, 256, size=(*shape, 3), dtype=np.uint8)
    ours = resize_square(image, checkpoint.square)
    settings = {"do_rescale": False, "do_normalize": False, "input_data_format": "channels_last"}
    # SmolVLM's and Idefics3's own settings are two tiles a side here, of which one is asked for.
    settings |= {"crop_to_patches": False} if family == "internvl" else {"size": {"longest_edge": 32}}
    settings |= {} if family == "internvl" else {"do_image_splitting": False}
    made = checkpoint.processor.image_processor(images=[image], return_tensors="np", **settings)
    theirs = made["pixel_values"].reshape(3, *ours.shape[:2]).transpose(1, 2, 0)
    np.testing.assert_array_equal(ours, theirs)


def test_a_model_of_any_resolution_gets_a_square():
    image = np.random.default_rng(1).integers(0, 256, size=(37, 53, 3), dtype=np.uint8)
    image.flags.writeable = False  # as arrays from Ray's object store are
    expected = resize(torch.tensor(image).permute(2, 0, 1), [64, 64], InterpolationMode.BICUBIC, antialias=True)
    found = resize_square(image, SQUARES["qwen2_vl"])
    np.testing.assert_array_equal(found, expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 448),  # 16 merged patches of 28 px
        ({"patch_size": 16}, 448),  # 14 of 32 px
        ({"patch_size": 12}, 456),  # 19 of 24 px are nearer to 448 than 18
        ({"max_pixels": 200_000}, 420),  # 448 ** 2 is more
        ({"min_pixels": 300_000}, 560),  # 532 ** 2 is less
        ({"size": {"shortest_edge": 100, "longest_edge": 10_000}}, 84),
    ],
)
def test_side_of_the_square_of_a_model_of_any_resolution(folders, tmp_path, settings, expected):
    folder = shutil.copytree(folders["qwen2_vl"], tmp_path / "qwen")
    as_on_the_hub(folder)
    edit(folder / "preprocessor_config.json", size=None, patch_size=None)
    edit(folder / "preprocessor_config.json", **settings)
    assert inspect_decoder(folder).size_px == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_layout_of_the_hub_is_the_same_model(folders, checkpoints, tmp_path, family):
    folder = shutil.copytree(folders[family], tmp_path / family)
    as_on_the_hub(folder)
    images = np.random.default_rng(0).integers(0, 256, size=(1, *2 * [SQUARES[family].size_px], 3), dtype=np.uint8)
    before, after = (
        DecoderScorer(each, [QUESTION], device="cpu").score(images)
        for each in (checkpoints[family], load_decoder(folder))
    )
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "processor_config.json", "config.json"])
def test_the_hash_covers_what_decides_a_score(folder, name):
    before = inspect_decoder(folder).weights_id
    path = folder / name
    path.write_text(path.read_text() + "\n")
    assert inspect_decoder(folder).weights_id != before


def test_unknown_families_are_refused_with_examples(folder):
    edit(folder / "config.json", model_type="kosmos-2")
    with pytest.raises(ModelError, match=r"smolvlm \(HuggingFaceTB/\S+\).*found model_type='kosmos-2'"):
        inspect_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image_processor.resample": 0}, "resample 1 .*found True and 0"),
        ({"image_processor.do_resize": False}, "do_resize true .* found False and 1"),
        ({"image_processor.max_image_size": {"height": 32}}, "`size` does not have the form"),
        ({"image_processor": None}, "expected the image processor's settings in processor_config.json or"),
    ],
)
def test_image_processors_that_are_not_reproduced_are_refused(folder, changes, problem):
    edit(folder / "processor_config.json", **changes)
    with pytest.raises(ModelError, match=problem):
        inspect_decoder(folder)


def test_an_oblong_size_is_refused(folders, tmp_path):
    folder = shutil.copytree(folders["internvl"], tmp_path / "internvl")
    edit(folder / "processor_config.json", **{"image_processor.size": {"height": 32, "width": 48}})
    with pytest.raises(ModelError, match="expected a square `size`"):
        inspect_decoder(folder)


def test_images_of_another_size_than_the_towers_are_refused(folder):
    edit(folder / "processor_config.json", **{"image_processor.max_image_size": {"longest_edge": 48}})
    with pytest.raises(ModelError, match="takes images of 32 px, its image processor makes 48 px"):
        inspect_decoder(folder)


def test_a_template_with_the_first_token_of_a_text_gets_no_second_one(folder):
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    first = next(each["id"] for each in content["added_tokens"] if each["content"] == "<|im_start|>")
    sequence = [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    special = {"<|im_start|>": {"id": "<|im_start|>", "ids": [first], "tokens": ["<|im_start|>"]}}
    pair = [*sequence, {"Sequence": {"id": "B", "type_id": 1}}]
    template = {"type": "TemplateProcessing", "single": sequence, "pair": pair, "special_tokens": special}
    path.write_text(json.dumps({**content, "post_processor": template}))
    edit(folder / "tokenizer_config.json", bos_token="<|im_start|>")
    (prompted,) = prompt_questions(load_decoder(folder), [QUESTION])
    assert prompted.prompt.count(first) == 1


def test_settings_that_mean_more_than_is_read_are_refused(folder):
    edit(folder / "processor_config.json", **{"image_processor.do_pad": False})
    load_decoder(folder)  # one tile needs no padding
    edit(folder / "processor_config.json", **{"image_processor.image_processor_type": "CLIPImageProcessor"})
    with pytest.raises(ModelError, match="not that of this family"):
        load_decoder(folder)


def test_only_safetensors_are_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="Pickled weights"):
        inspect_decoder(folder)


def test_incomplete_weights_are_refused(folder):
    edit(folder / "config.json", **{"text_config.num_hidden_layers": 4})
    with pytest.raises(ModelError, match="tensors of the model are not in the weights"):
        load_decoder(folder)


def test_windows_of_attention_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders["qwen2_vl"], tmp_path / "qwen")
    layers = ["full_attention", "sliding_attention", "full_attention"]
    edit(folder / "config.json", **{"text_config.use_sliding_window": True, "text_config.layer_types": layers})
    with pytest.raises(ModelError, match="layers all attend to the whole text"):
        load_decoder(folder)


def replace_in_template(folder, old, new):
    path = folder / "chat_template.jinja"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_checkpoint_without_a_template_is_refused(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="expected a chat template"):
        load_decoder(folder)


def test_a_template_without_an_end_is_refused(folder):
    replace_in_template(folder, "<end_of_utterance>", "")
    with pytest.raises(ModelError, match=r"ends it, found .*Assistant:' for the question .* with the answer 'no'"):
        DecoderScorer(load_decoder(folder), [QUESTION], device="cpu")


def test_a_template_that_does_not_continue_the_prompt_is_refused(folder):
    replace_in_template(folder, "'Assistant:'", "'Bot:'")
    with pytest.raises(ModelError, match="expected the chat template to render a question"):
        DecoderScorer(load_decoder(folder), [QUESTION], device="cpu")


def test_a_template_with_the_image_behind_needs_the_plain_path(folder):
    replace_in_template(folder, "message['content'] %}", "message['content'] | reverse %}")
    checkpoint = load_decoder(folder)
    questions = [QUESTION, VqaQuestion("is it?", ("no", "yes"))]
    with pytest.raises(ModelError, match="--engine hf"):
        DecoderScorer(checkpoint, questions, device="cpu")
    images = np.zeros((1, 32, 32, 3), np.uint8)
    assert np.isfinite(PlainDecoder(checkpoint, questions, device="cpu").score(images)).all()


@pytest.mark.parametrize("question", [VqaQuestion("a <image>?", ("no", "yes")), VqaQuestion("a?", ("<pad>", "yes"))])
def test_special_tokens_in_questions_are_refused(checkpoints, question):
    with pytest.raises(ConfigError, match="which mean something to the model's template"):
        DecoderScorer(checkpoints["smolvlm"], [question], device="cpu")
