"""The tiny CLIP: its captions, its loss, and a few steps of its training. Training it in full takes 15 minutes."""

import numpy as np
import pytest
import torch

from faceattr.demo.teacher import draw_training_faces
from faceattr.demo.tiny_clip.captions import CAPTIONED, Caption, draw_caption, list_prompts
from faceattr.demo.tiny_clip.train import (
    ClipTrainer,
    TinyClipConfig,
    build_clip_tokenizer,
    build_tiny_clip,
    compute_contrastive_loss,
    find_truth,
    save_tiny_clip,
)
from faceattr.vqa.contrastive.modules import load_contrastive
from faceattr.vqa.engines import inspect_checkpoint
from faceattr.vqa.question_files import load_question_set


def test_captions_say_what_is_true_and_are_no_prompts():
    prompts = list_prompts()
    assert "a photo of a person wearing a hat" in prompts
    rng = np.random.default_rng(0)
    spoken = set()
    for _ in range(3_000):
        labels = dict(zip(CAPTIONED, rng.integers(0, 2, size=3).tolist(), strict=True))
        caption = draw_caption(labels, rng, without=prompts)
        assert caption.text not in prompts
        assert all(labels[name] == value for name, value in caption.says.items())
        spoken.add(caption.text)
        if caption.says == {"hat": 0}:
            assert "with a hat" not in caption.text
            assert "wearing" not in caption.text
    assert len(spoken) > 1_000


def test_a_caption_is_true_of_a_face_if_all_that_it_says_is():
    faces = [{"hat": 1, "glasses": 0, "facial_hair": 0}, {"hat": 1, "glasses": 1, "facial_hair": 0}]
    captions = [Caption("", {"hat": 1}), Caption("", {"hat": 1, "glasses": 1}), Caption("", {"glasses": 0})]
    assert find_truth(faces, captions).tolist() == [[True, False, True], [True, True, False]]


def test_the_loss_is_least_where_all_that_is_true_is_equally_near():
    # Two images, two texts; the first text is true of both. By images: targets (1/2, 1/2) and (1, 0); scale 2.
    images, texts = torch.eye(2), torch.eye(2)
    truth = torch.tensor([[True, True], [True, False]])
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])

    def cross_entropy(targets, scores):
        return -(targets * (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))).sum(axis=1).mean()

    by_image = cross_entropy(np.array([[0.5, 0.5], [1.0, 0.0]]), logits)
    by_text = cross_entropy(np.array([[0.5, 0.5], [1.0, 0.0]]), logits.T)
    found = compute_contrastive_loss(images, texts, truth, torch.tensor(2.0))
    assert found.item() == pytest.approx((by_image + by_text) / 2, rel=1e-5)


def test_the_prompts_of_the_demos_set_fit_and_are_known_words():
    tokenizer = build_clip_tokenizer()
    for asked in load_question_set("clear_face").asked:
        for prompt in [prompt for prompts in asked.prompts for prompt in prompts]:
            ids = tokenizer(prompt)["input_ids"]
            # No unknown letter: that would be the token which ends a text.
            assert tokenizer.eos_token_id not in ids[:-1]
            assert len(ids) < 48


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_the_result_can_label(tmp_path):
    tokenizer = build_clip_tokenizer()
    model = build_tiny_clip(tokenizer)
    trainer = ClipTrainer(model, tokenizer, draw_training_faces(16), TinyClipConfig(steps=12, batch_size=8))
    losses = trainer.train()
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    save_tiny_clip(model, tokenizer, tmp_path)
    assert inspect_checkpoint(str(tmp_path)).model_type == "clip"
    assert load_contrastive(tmp_path, attention="sdpa").preprocessing.framing.size_px == 96
