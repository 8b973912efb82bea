"""The tiny BLIP: its wordings, its training, and what the checkpoint that ships can do on faces it never saw."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score
from transformers import AutoProcessor, AutoTokenizer, BlipForQuestionAnswering, BlipImageProcessor, BlipProcessor

import faceattr.demo
from faceattr.demo.faces import LABEL_NAMES, build_face_rng, draw_face, write_faces
from faceattr.demo.teacher import TRAINING_SEED, TeacherConfig, Trainer, draw_training_faces
from faceattr.demo.tiny_blip import build_image_processor, build_model, build_tokenizer, save_tiny_blip
from faceattr.demo.wordings import PRODUCT_WORDINGS, Wording, build_vocabulary, build_wordings

ASSET_DIR = Path(next(iter(faceattr.demo.__path__))) / "assets" / "tiny-blip"
MAIN_LABELS = ("hat", "glasses", "facial_hair")
LEAST_F1 = 0.95
# Any series but the training one.
EVALUATION_SEED = 90_001
NUM_FACES = 600
NUM_UNSEEN_WORDINGS = 8


class Asked:
    """The shipped model, its states of the fresh faces, and their labels; asks by plain transformers calls."""

    def __init__(self, folder: Path) -> None:
        self.model = BlipForQuestionAnswering.from_pretrained(ASSET_DIR, use_safetensors=True).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(ASSET_DIR)
        processor = BlipImageProcessor.from_pretrained(ASSET_DIR)
        with write_faces(folder, NUM_FACES, EVALUATION_SEED).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.labels = {name: np.array([int(row[name]) for row in rows]) for name in LABEL_NAMES}
        states = []
        with torch.inference_mode():
            for start in range(0, NUM_FACES, 50):
                images = [Image.open(folder / row["image_path"]) for row in rows[start : start + 50]]
                pixels = processor(images=images, return_tensors="pt").pixel_values
                states.append(self.model.vision_model(pixels).last_hidden_state)
        self.states = torch.cat(states)

    @torch.inference_mode()
    def scores(self, text: str) -> np.ndarray:
        """P(yes) / (P(yes) + P(no)) per face, float [NUM_FACES]; an answer's log p is summed up to its [SEP]."""
        question = torch.tensor([self.tokenizer(text).input_ids]).expand(NUM_FACES, -1)
        asked = self.model.text_encoder(input_ids=question, encoder_hidden_states=self.states).last_hidden_state
        log_p = []
        for answer in ("no", "yes"):
            ids = [self.model.decoder_start_token_id, *self.tokenizer(answer).input_ids[1:]]
            tokens = torch.tensor([ids]).expand(NUM_FACES, -1)
            logits = self.model.text_decoder(input_ids=tokens[:, :-1], encoder_hidden_states=asked).logits
            steps = logits.log_softmax(dim=-1).gather(2, tokens[:, 1:, None])
            log_p.append(steps.sum(dim=(1, 2)))
        return torch.stack(log_p, dim=1).softmax(dim=1)[:, 1].numpy()

    def f1(self, name: str, scores: np.ndarray) -> float:
        return f1_score(self.labels[name], scores > 0.5)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # The model is too small for more: on a busy machine the threads wait for each other.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Asked:
    return Asked(tmp_path_factory.mktemp("faces"))


def unseen_wordings(name: str) -> list[Wording]:
    """Some held-out wordings, half of each polarity; the asset's README names those known to fail."""
    chosen = []
    for positive in (True, False):
        fitting = [
            wording
            for wording in build_wordings()
            if wording.held_out and wording.attribute == name and wording.positive == positive
        ]
        order = np.random.default_rng(0).permutation(len(fitting))
        chosen += [fitting[index] for index in order[: NUM_UNSEEN_WORDINGS // 2]]
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN_LABELS)
def test_product_wordings_reach_the_bar(asked, name):
    scores = {text: asked.scores(text) for text in PRODUCT_WORDINGS[name]}
    f1 = {text: asked.f1(name, values) for text, values in scores.items()}
    assert min(f1.values()) >= LEAST_F1, f1
    assert asked.f1(name, np.mean(list(scores.values()), axis=0)) >= LEAST_F1


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN_LABELS)
def test_wordings_never_trained_reach_the_bar(asked, name):
    f1 = {}
    for wording in unseen_wordings(name):
        values = asked.scores(wording.text)
        f1[wording.text] = asked.f1(name, values if wording.positive else 1 - values)
    assert np.mean(list(f1.values())) >= LEAST_F1, f1


@pytest.mark.slow
def test_yes_and_no_have_nearly_all_of_the_probability(asked):
    text = PRODUCT_WORDINGS["hat"][0]
    ids = torch.tensor([asked.tokenizer(text).input_ids]).expand(50, -1)
    with torch.inference_mode():
        states = asked.model.text_encoder(input_ids=ids, encoder_hidden_states=asked.states[:50]).last_hidden_state
        start = torch.full((50, 1), asked.model.decoder_start_token_id)
        logits = asked.model.text_decoder(input_ids=start, encoder_hidden_states=states).logits[:, 0]
    answers = asked.tokenizer.convert_tokens_to_ids(["yes", "no"])
    assert logits.softmax(dim=-1)[:, answers].sum(dim=1).min() > 0.99


@pytest.mark.slow
def test_generate_says_the_likelier_answer(asked):
    text = PRODUCT_WORDINGS["glasses"][0]
    processor = BlipProcessor.from_pretrained(ASSET_DIR)
    expected = asked.scores(text)
    for index in range(4):
        # The same drawing without JPEG's loss, which moves no clear answer.
        face = draw_face(build_face_rng(EVALUATION_SEED, index))
        inputs = processor(images=Image.fromarray(face.image), text=text, return_tensors="pt")
        said = processor.decode(asked.model.generate(**inputs, max_new_tokens=4)[0], skip_special_tokens=True)
        assert said.strip() == ("yes" if expected[index] > 0.5 else "no")


def test_the_asset_is_small_and_holds_fp16_weights():
    assert EVALUATION_SEED != TRAINING_SEED
    assert sum(path.stat().st_size for path in ASSET_DIR.iterdir()) <= 6_000_000
    names = {path.name for path in ASSET_DIR.iterdir()}
    assert names >= {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (ASSET_DIR / "model.safetensors").stat().st_size <= 2_200_000


def test_the_asset_loads_as_the_code_would_build_it():
    model, report = BlipForQuestionAnswering.from_pretrained(ASSET_DIR, use_safetensors=True, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.dtype == torch.float32
    processor = AutoProcessor.from_pretrained(ASSET_DIR)
    assert isinstance(processor, BlipProcessor)
    assert processor.image_processor.size == {"height": 96, "width": 96}
    # An edited template would move every token id away from what the weights know.
    assert processor.tokenizer.get_vocab() == build_vocabulary()
    assert model.decoder_start_token_id == processor.tokenizer.convert_tokens_to_ids("[DEC]")


def test_wordings_are_unique_and_every_attribute_is_asked_both_ways_in_both_parts():
    wordings = build_wordings()
    assert len({wording.text for wording in wordings}) == len(wordings)
    for name in LABEL_NAMES:
        kinds = {(wording.positive, wording.held_out) for wording in wordings if wording.attribute == name}
        assert kinds == {(True, True), (True, False), (False, True), (False, False)}
    assert 0.07 < sum(wording.held_out for wording in wordings) / len(wordings) < 0.13


def test_product_wordings_are_trained():
    trained = {wording.text: wording for wording in build_wordings() if not wording.held_out}
    for name, texts in PRODUCT_WORDINGS.items():
        for text in texts:
            assert (trained[text].attribute, trained[text].positive) == (name, True)


def test_words_are_single_tokens_and_unknown_ones_are_unk():
    vocabulary = build_vocabulary()
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    tokenizer = build_tokenizer()
    for question in ("Does this person have a beard or a mustache?", "Is the head bare?", "Is he clean-shaven?"):
        assert tokenizer.unk_token_id not in tokenizer(question).input_ids
    ids = tokenizer("Is the zebra wearing a hat?").input_ids
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert ids.count(tokenizer.unk_token_id) == 1
    assert [len(tokenizer(answer, add_special_tokens=False).input_ids) for answer in ("yes", "no")] == [1, 1]


def test_training_images_are_what_the_processor_makes():
    faces = draw_training_faces(2)
    expected = build_image_processor()(
        images=[draw_face(build_face_rng(TRAINING_SEED, index)).image for index in range(2)],
        do_rescale=False,
        do_normalize=False,
        return_tensors="pt",
    ).pixel_values
    torch.testing.assert_close(faces.images.float(), expected.float(), rtol=0, atol=0)


@pytest.mark.long
def test_every_stage_lowers_its_loss_and_the_result_loads(tmp_path):
    config = TeacherConfig(num_faces=48, batch_size=8)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    trainer = Trainer(model, tokenizer, draw_training_faces(config.num_faces), config)
    for stage in (trainer.train_vision, trainer.train_text, trainer.train_jointly):
        losses = stage(12)
        assert np.mean(losses[-3:]) < np.mean(losses[:3])
    save_tiny_blip(model, tokenizer, tmp_path)
    again = BlipForQuestionAnswering.from_pretrained(tmp_path, use_safetensors=True)
    for name, tensor in model.state_dict().items():
        # Stored as fp16: 11 bits of mantissa.
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=5e-4, atol=1e-6)
