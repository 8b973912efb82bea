import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoProcessor, AutoTokenizer

from faceattr.attributes import Attribute
from faceattr.config import LabelConfig, StorageConfig
from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.contrastive.build import build_scorer
from faceattr.vqa.contrastive.modules import load_contrastive
from faceattr.vqa.contrastive.reference import PlainContrastive
from faceattr.vqa.contrastive.scorer import ContrastiveScorer
from faceattr.vqa.engines import check_options, inspect_checkpoint
from faceattr.vqa.questions import AskedAttribute, QuestionSet
from faceattr.vqa.scorer import draw_noise, self_test
from tests.contrastive_checkpoints import save_random_clip, save_random_siglip

PROMPTS = (
    (("a bare head",), ("a hat", "a person with a hat")),
    (("blond hair", "light hair"), ("brown hair",), ("a red beard and red hair",)),
)
FAMILIES = ("clip", "siglip")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("contrastive")
    return {"clip": save_random_clip(root / "clip"), "siglip": save_random_siglip(root / "siglip", resample=2)}


@pytest.fixture(params=FAMILIES)
def folder(request, folders):
    return folders[request.param]


@pytest.fixture(scope="module")
def fast(folders):
    return {name: load_contrastive(each, attention="sdpa") for name, each in folders.items()}


@pytest.fixture(scope="module")
def plain(folders):
    return {name: load_contrastive(each, attention="eager") for name, each in folders.items()}


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def transformers_logits(folder, images, prompts):
    """logits_per_image of transformers, each prompt given alone; float64 [n, prompts]."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder).image_processor
    pixels = processor(images=list(images), return_tensors="pt", input_data_format="channels_last", do_resize=False)
    padding = {"padding": "max_length", "max_length": 100} if model.config.model_type == "siglip" else {}
    with torch.no_grad():
        columns = [
            model(**tokenizer([prompt], return_tensors="pt", **padding), **pixels).logits_per_image
            for prompt in prompts
        ]
    return torch.cat(columns, dim=1).double().numpy()


@pytest.mark.parametrize("engine", ["fast", "plain"])
@pytest.mark.parametrize("family", FAMILIES)
def test_single_prompts_score_as_transformers_says(folders, fast, plain, draw_images, family, engine):
    prompts = ((("no hat",), ("a hat",)), (("a",), ("bb",), ("ccc",)))
    images = draw_images(3, 32)
    checkpoint = {"fast": fast, "plain": plain}[engine][family]
    scorer = {"fast": ContrastiveScorer, "plain": PlainContrastive}[engine](checkpoint, prompts, device="cpu")
    assert scorer.answer_slices == (slice(0, 2), slice(2, 5))
    logits = transformers_logits(folders[family], images, ["no hat", "a hat", "a", "bb", "ccc"])
    assert np.ptp(logits, axis=0).min() > 0.05  # the images matter
    if family == "clip":
        weights = np.exp(logits)
        expected = [weights[:, cut] / weights[:, cut].sum(axis=1, keepdims=True) for cut in scorer.answer_slices]
    else:
        weights = 1 / (1 + np.exp(-logits))
        expected = [
            weights[:, cut] / np.maximum(1, weights[:, cut].sum(axis=1, keepdims=True)) for cut in scorer.answer_slices
        ]
    np.testing.assert_allclose(scorer.score(images), np.log(np.concatenate(expected, axis=1)), atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_several_prompts_are_one_mean_embedding(folders, fast, draw_images, family):
    images = draw_images(2, 32)
    model, tokenizer = AutoModel.from_pretrained(folders[family]).eval(), AutoTokenizer.from_pretrained(folders[family])
    padding = {"padding": "max_length", "max_length": 100} if family == "siglip" else {}
    with torch.no_grad():
        texts = [
            model.get_text_features(**tokenizer([text], return_tensors="pt", **padding)).pooler_output[0].numpy()
            for text in ("a bare head", "a hat", "a person with a hat")
        ]
    head, one, two = (each / np.linalg.norm(each) for each in texts)
    hat = (one + two) / np.linalg.norm(one + two)
    # By how far the single prompts' logits are from each other, the embedding of an image is known well enough.
    singles = transformers_logits(folders[family], images, ["a bare head", "a hat", "a person with a hat"])
    scale, bias = np.exp(3.0), -1.0 if family == "siglip" else 0.0
    cosines = (singles - bias) / scale
    hat_logits = (cosines[:, 1] + cosines[:, 2]) / np.linalg.norm(one + two) * scale + bias
    logits = np.stack([singles[:, 0], hat_logits], axis=1)
    assert abs(hat @ head) < 1
    found = ContrastiveScorer(fast[family], PROMPTS[:1], device="cpu").score(images).astype(float)
    difference = logits[:, 1] - logits[:, 0]
    if family == "siglip":
        difference = np.log(1 / (1 + np.exp(-logits[:, 1]))) - np.log(1 / (1 + np.exp(-logits[:, 0])))
    np.testing.assert_allclose(found[:, 1] - found[:, 0], difference, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fast_engine_equals_the_plain_one_in_any_batch(fast, plain, draw_images, family):
    images = draw_images(5, 32)
    expected = PlainContrastive(plain[family], PROMPTS, device="cpu").score(images)
    for batch_size in (1, 2, 8):
        scorer = ContrastiveScorer(fast[family], PROMPTS, device="cpu", batch_size=batch_size)
        np.testing.assert_allclose(scorer.score(images), expected, atol=1e-4)
    assert scorer.score(images[:0]).shape == (0, 5)


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_passes_the_self_test_and_a_wrong_scale_does_not(fast, plain, family):
    expected = PlainContrastive(plain[family], PROMPTS, device="cpu").score(draw_noise(32))
    scorer = ContrastiveScorer(fast[family], PROMPTS, device="cpu", dtype=torch.float16)
    assert 0 < self_test(scorer, expected, half_tolerance=0.03) < 0.03
    scorer._scale = scorer._scale * 3
    with pytest.raises(ModelError, match="self-test"):
        self_test(scorer, expected, half_tolerance=0.03)


def test_clip_sums_to_one_and_siglip_to_its_mass(fast, draw_images):
    images = draw_images(4, 32)
    clip = np.exp(ContrastiveScorer(fast["clip"], PROMPTS, device="cpu").score(images))
    np.testing.assert_allclose([clip[:, :2].sum(axis=1), clip[:, 2:].sum(axis=1)], 1, atol=1e-5)
    hat = AskedAttribute(
        attribute=Attribute(name="hat"), questions=("?",), answers=("no", "yes"), inverted=(False,), prompts=PROMPTS[0]
    )
    scores = ContrastiveScorer(fast["siglip"], PROMPTS[:1], device="cpu").score(images)
    plain = QuestionSet(name="t", asked=(hat,), by_prompts=True)
    masses = plain.compute_labels(scores)["hat"].mass
    np.testing.assert_allclose(masses, np.exp(scores).sum(axis=1), atol=1e-6)
    assert (masses <= 1 + 1e-6).all()


def test_what_overflows_in_half_precision_is_computed_again(folders, draw_images, caplog):
    checkpoint = load_contrastive(folders["clip"], attention="sdpa")
    expected = ContrastiveScorer(checkpoint, PROMPTS, device="cpu").score(draw_images(2, 32))
    with torch.no_grad():  # beyond float16; the length of an embedding does not count
        checkpoint.model.visual_projection.weight.mul_(1e7)
    scorer = ContrastiveScorer(checkpoint, PROMPTS, device="cpu", dtype=torch.float16)
    np.testing.assert_allclose(scorer.score(draw_images(2, 32)), expected, atol=1e-5)
    assert "half_precision_overflow images=2" in caplog.text


@pytest.mark.parametrize("engine", ["packed", "hf"])
def test_a_folder_becomes_a_proven_scorer(folder, draw_images, engine):
    facts = inspect_checkpoint(str(folder))
    hat = AskedAttribute(
        attribute=Attribute(name="hat"), questions=("a hat?", "bald?"), answers=("no", "yes"), inverted=(False, True)
    )
    arguments = {
        "model": str(folder),
        "revision": None,
        "questions": QuestionSet(name="t", asked=(hat,), by_prompts=True),
        "engine": engine,
        "question_start": "cls",
        "batch_size": 4,
        "threads": 1,
        "on_gpu": False,
        "compile_mode": "auto",
        "num_images": 10,
        "storage": StorageConfig(),
    }
    scorer = build_scorer(weights_id=facts.weights_id, **arguments)
    assert (facts.size_px, scorer.image_size_px) == (32, 32)
    assert scorer.score(draw_images(3, 32)).shape == (3, 2)
    with pytest.raises(ModelError, match="this node has weights"):
        build_scorer(weights_id="0" * 64, **arguments)


def test_an_image_costs_what_torch_counts(folder, plain):
    # Attention step by step, since torch does not count its kernel on the CPU.
    facts = inspect_checkpoint(str(folder))
    scorer = ContrastiveScorer(plain[facts.model_type], PROMPTS, device="cpu")
    with FlopCounterMode(display=False) as counter:
        scorer.score(np.zeros((1, 32, 32, 3), np.uint8))
    # The comparison with the answers' embeddings is not counted.
    embedding = {"clip": 24, "siglip": 48}[facts.model_type]
    expected = (counter.get_total_flops() - 2 * 5 * embedding) / 1e9
    assert facts.gflop_image == pytest.approx(expected, rel=1e-9)
    assert facts.gflop_question == 0


def test_a_prompt_that_is_too_long_is_refused(fast):
    with pytest.raises(ConfigError, match="has 121 tokens, the model takes 100; shorten it"):
        ContrastiveScorer(fast["siglip"], (((121 * "a",), ("b",)),), device="cpu")


def test_flags_of_other_families_are_refused():
    given = {"images": "a", "output": "b"}
    for flag, value in (("question_start", "enc"), ("precision", "fp8"), ("compile", "on"), ("agreement", True)):
        for family in FAMILIES:
            check_options(LabelConfig(**given, precision="auto"), family)
            with pytest.raises(ConfigError, match=f"--{flag.replace('_', '-')}: expected .* for a {family} model"):
                check_options(LabelConfig(**given, **{flag: value}), family)


def test_naflex_and_towers_without_texts_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders["clip"], tmp_path / "naflex")
    edit_json(folder / "config.json", model_type="siglip2")
    with pytest.raises(ModelError, match=r"NaFlex.*such as google/siglip2-base-patch16-224"):
        inspect_checkpoint(str(folder))
    edit_json(folder / "config.json", model_type="clip", architectures=["CLIPVisionModel"])
    with pytest.raises(ModelError, match=r"expected a model of images and texts \(CLIPModel or SiglipModel\), found"):
        inspect_checkpoint(str(folder))


def test_missing_weights_are_refused(folders, tmp_path):
    folder = shutil.copytree(folders["siglip"], tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("logit_bias")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="1 tensors of the model are not in the weights, 'logit_bias'"):
        load_contrastive(folder, attention="sdpa")
