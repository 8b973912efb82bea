import dataclasses

import numpy as np
import pytest
import torch

from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.blip.network.network import BlipNetwork
from faceattr.vqa.blip.network.sequence import pack, plan_packs
from faceattr.vqa.blip.oracle.reference import HfScorer
from faceattr.vqa.blip.preprocess import resize_rgb
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.questions import VqaQuestion

# Short and long questions, one-token and longer answers, answers that begin alike, one answer that begins another,
# and the same question twice.
QUESTIONS = (
    VqaQuestion("is the person wearing a hat ?", ("yes", "no")),
    VqaQuestion("glasses ?", ("black glasses", "yes", "black hat", "black", "none")),
    VqaQuestion(
        "what color is the hair of the very young man there , and what color is the beard on the face ?",
        ("black", "brown", "reddish", "light brown", "light blond and gray", "light blond"),
    ),
    VqaQuestion("is the person wearing a hat ?", ("no", "yes")),
    VqaQuestion("how old ?", ("young",)),
)
SIZES = ["small", "uneven", "deep"]
TOLERANCE = 1e-4


@pytest.mark.parametrize("question_start", ["cls", "enc"])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_hugging_face_modules(checkpoints, references, draw_images, size, question_start):
    checkpoint = checkpoints[size]
    scorer = BlipScorer(checkpoint, QUESTIONS, device="cpu", question_start=question_start)
    oracle = HfScorer(references[size], QUESTIONS, device="cpu", question_start=question_start)
    images = draw_images(5, scorer.image_size_px)
    scores = scorer.score(images)
    assert scores.dtype == np.float32
    assert scores.shape == (5, 16)
    assert (scores < 0).all()
    # Parity says nothing about a model that does not look: the image has to move each answer by far more.
    assert (np.ptp(scores, axis=0) > 50 * TOLERANCE).all()
    np.testing.assert_allclose(scores, oracle.score(images), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_equals_generate_from_the_raw_image(checkpoints, references, draw_images, size):
    """Without our tokenisation, resize, teacher forcing or oracle: `generate`, forced to say each answer."""
    checkpoint = checkpoints[size]
    image = draw_images(1, 71, seed=3)[0, :, :53]
    tokenizer, model = references[size].tokenizer, references[size].model
    pixel_values = references[size].image_processor(images=[image], return_tensors="pt")["pixel_values"]
    expected = []
    for question in QUESTIONS:
        input_ids = tokenizer(question.text, return_tensors="pt").input_ids
        for answer in question.answers:
            answer_ids = tokenizer(answer).input_ids[1:]
            output = model.generate(
                input_ids=input_ids,
                pixel_values=pixel_values,
                prefix_allowed_tokens_fn=lambda _, said, forced=answer_ids: [forced[len(said) - 1]],
                max_new_tokens=len(answer_ids),
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
            assert output.sequences[0, 1:].tolist() == answer_ids
            steps = [logits[0].log_softmax(-1) for logits in output.logits]
            expected.append(sum(float(step[token]) for step, token in zip(steps, answer_ids, strict=True)))
    scorer = BlipScorer(checkpoint, QUESTIONS, device="cpu")
    scores = scorer.score(resize_rgb(image, scorer.image_size_px)[None])[0]
    np.testing.assert_allclose(scores, expected, atol=TOLERANCE, rtol=0)


def test_answer_slices(checkpoint):
    scorer = BlipScorer(checkpoint, QUESTIONS, device="cpu")
    assert scorer.answer_slices == (slice(0, 2), slice(2, 7), slice(7, 13), slice(13, 15), slice(15, 16))


def test_scores_do_not_depend_on_batch_size_or_order(checkpoint, draw_images):
    images = draw_images(7, checkpoint.preprocessing.size_px)
    expected = BlipScorer(checkpoint, QUESTIONS, device="cpu", batch_size=7).score(images)
    order = np.random.default_rng(0).permutation(7)
    shuffled = BlipScorer(checkpoint, QUESTIONS, device="cpu", batch_size=2).score(images[order])
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-5, rtol=0)


def test_scores_do_not_depend_on_what_else_is_asked(checkpoint, draw_images):
    images = draw_images(2, checkpoint.preprocessing.size_px)
    together = BlipScorer(checkpoint, QUESTIONS, device="cpu")
    scores = together.score(images)
    for question, columns in zip(QUESTIONS, together.answer_slices, strict=True):
        alone = BlipScorer(checkpoint, [question], device="cpu").score(images)
        np.testing.assert_allclose(alone, scores[:, columns], atol=1e-5, rtol=0)
    reversed_questions = BlipScorer(checkpoint, QUESTIONS[::-1], device="cpu")
    columns = np.concatenate([np.arange(16)[part] for part in together.answer_slices[::-1]])
    np.testing.assert_allclose(reversed_questions.score(images), scores[:, columns], atol=1e-5, rtol=0)


def test_chunks_equal_one_pack(checkpoint, draw_images):
    """200 questions; chunks of 8 tokens also cut between the answers of a question."""
    images = draw_images(2, checkpoint.preprocessing.size_px)
    questions = QUESTIONS * 40
    unchunked = BlipScorer(checkpoint, questions, device="cpu", max_pack_tokens=10**6).score(images)
    np.testing.assert_allclose(unchunked[:, :16], unchunked[:, -16:], atol=1e-5, rtol=0)
    for max_pack_tokens in (8, 256):
        chunked = BlipScorer(checkpoint, questions, device="cpu", max_pack_tokens=max_pack_tokens).score(images)
        np.testing.assert_allclose(chunked, unchunked, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layers_at_once", [1, 2, 5])
def test_layers_share_a_matrix_product_without_a_difference(checkpoints, draw_images, layers_at_once):
    """5 layers in products of 1, 2 (and the last alone) and all, for two packs."""
    checkpoint = checkpoints["deep"]
    scorer = BlipScorer(checkpoint, QUESTIONS, device="cpu", max_pack_tokens=30)
    images = draw_images(3, scorer.image_size_px)
    packs = [
        pack(chunk, dec_token_id=checkpoint.architecture.dec_token_id)
        for chunk in plan_packs(scorer.questions, max_tokens=30)
    ]
    assert len(packs) > 1
    network = BlipNetwork(checkpoint, packs, layers_at_once=layers_at_once)
    with torch.inference_mode():
        scores = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(scores, scorer.score(images), atol=1e-5, rtol=0)


def test_the_question_start_matters(checkpoint, draw_images):
    images = draw_images(1, checkpoint.preprocessing.size_px)
    cls = BlipScorer(checkpoint, QUESTIONS, device="cpu", question_start="cls").score(images)
    enc = BlipScorer(checkpoint, QUESTIONS, device="cpu", question_start="enc").score(images)
    assert np.abs(cls - enc).max() > 10 * TOLERANCE


def test_half_precision_is_close_and_its_logarithms_are_float32(checkpoint, draw_images):
    images = draw_images(3, checkpoint.preprocessing.size_px)
    exact = BlipScorer(checkpoint, QUESTIONS, device="cpu").score(images)
    half = BlipScorer(checkpoint, QUESTIONS, device="cpu", dtype=torch.float16).score(images)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, exact, atol=1e-2, rtol=0)


def test_overflown_half_precision_is_recomputed(checkpoint, draw_images, caplog):
    name = "vision_model.encoder.layers.0.mlp.fc2.weight"
    wide = {name: checkpoint.tensors[name] * 1e5}
    overflowing = dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, **wide})
    images = draw_images(3, checkpoint.preprocessing.size_px)
    exact = BlipScorer(overflowing, QUESTIONS, device="cpu").score(images)
    half = BlipScorer(overflowing, QUESTIONS, device="cpu", dtype=torch.float16).score(images)
    np.testing.assert_allclose(half, exact, atol=1e-5, rtol=0)
    assert "half_precision_overflow images=3" in caplog.text


def test_broken_weights_are_an_error_and_never_nan(checkpoint, draw_images):
    name = "vision_model.post_layernorm.weight"
    weight = checkpoint.tensors[name].clone()
    weight[0] = torch.nan
    broken = dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, name: weight})
    images = draw_images(2, checkpoint.preprocessing.size_px)
    for dtype in (torch.float32, torch.float16):
        with pytest.raises(ModelError, match="scores of 2 images are not finite"):
            BlipScorer(broken, QUESTIONS, device="cpu", dtype=dtype).score(images)


def test_the_checkpoint_stays_as_it_is(checkpoint, draw_images):
    before = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
    images = draw_images(1, checkpoint.preprocessing.size_px)
    BlipScorer(checkpoint, QUESTIONS, device="cpu", dtype=torch.float16).score(images)
    for name, tensor in checkpoint.tensors.items():
        torch.testing.assert_close(tensor, before[name], atol=0, rtol=0)


def test_no_images_give_no_scores(checkpoint, reference):
    size_px = checkpoint.preprocessing.size_px
    for scorer in (BlipScorer(checkpoint, QUESTIONS, device="cpu"), HfScorer(reference, QUESTIONS, device="cpu")):
        assert scorer.score(np.empty((0, size_px, size_px, 3), dtype=np.uint8)).shape == (0, 16)


def test_read_only_images_are_taken_silently(checkpoint, draw_images, recwarn):
    images = draw_images(2, checkpoint.preprocessing.size_px)
    images.flags.writeable = False
    BlipScorer(checkpoint, QUESTIONS, device="cpu").score(images)
    assert not recwarn.list


@pytest.mark.parametrize("wrong", [np.zeros((1, 16, 32, 3), np.uint8), np.zeros((1, 32, 32, 3), np.float32)])
def test_other_images_are_refused(checkpoint, reference, wrong):
    for scorer in (BlipScorer(checkpoint, QUESTIONS, device="cpu"), HfScorer(reference, QUESTIONS, device="cpu")):
        with pytest.raises(ValueError, match=r"expected uint8 images \[n, 32, 32, 3\], found"):
            scorer.score(wrong)


def test_devices_that_are_not_there(checkpoint):
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda"):
        BlipScorer(checkpoint, QUESTIONS, device="gpu0")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="sees no CUDA device"):
            BlipScorer(checkpoint, QUESTIONS, device="cuda")
        assert BlipScorer(checkpoint, QUESTIONS, device="auto").device.type == "cpu"


def test_batch_size_is_checked(checkpoint):
    with pytest.raises(ConfigError, match="batch_size: expected at least 1, found 0"):
        BlipScorer(checkpoint, QUESTIONS, device="cpu", batch_size=0)


@pytest.mark.gpu
def test_half_precision_on_a_gpu(checkpoints, references, draw_images):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    checkpoint = checkpoints["deep"]
    images = draw_images(5, checkpoint.preprocessing.size_px)
    oracle = HfScorer(references["deep"], QUESTIONS, device="cpu").score(images)
    np.testing.assert_allclose(BlipScorer(checkpoint, QUESTIONS, device="cuda").score(images), oracle, atol=1e-2)
    exact = BlipScorer(checkpoint, QUESTIONS, device="cuda", dtype=torch.float32).score(images)
    np.testing.assert_allclose(exact, oracle, atol=TOLERANCE, rtol=0)
