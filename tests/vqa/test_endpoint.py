"""Labels through a server: likelihoods by hand, busy and failing servers, keys, and the address."""

import logging
import time

import numpy as np
import pytest
from PIL import Image

from faceattr.attributes import Attribute
from faceattr.config import LabelConfig, StorageConfig
from faceattr.errors import ConfigError, EndpointError, ModelError
from faceattr.vqa.endpoint.address import parse_endpoint
from faceattr.vqa.endpoint.client import KEY_VARIABLE
from faceattr.vqa.endpoint.facts import SIZE_PX
from faceattr.vqa.endpoint.request import read_likelihoods
from faceattr.vqa.endpoint.resize import pad_rgb
from faceattr.vqa.endpoint.scorer import build_scorer
from faceattr.vqa.engines import check_options, inspect_checkpoint
from faceattr.vqa.questions import AskedAttribute, QuestionSet, VqaQuestion
from tests.fakes.chat_server import ChatServer, serve_chats

QUESTIONS = QuestionSet(
    name="test",
    asked=(
        AskedAttribute(
            attribute=Attribute(name="bright"),
            questions=("is it bright?", "is it dark?"),
            answers=("no", "yes"),
            inverted=(False, True),
        ),
        AskedAttribute(
            attribute=Attribute(name="color", kind="multiclass", classes=("light", "gray", "dark")),
            questions=("which color is it?",),
            answers=("light", "gray", "dark"),
            inverted=(False,),
        ),
    ),
)
SECONDS = StorageConfig(deadline_s=20.0)


@pytest.fixture(autouse=True)
def _without_key(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture
def server():
    with serve_chats(ChatServer()) as found:
        yield found


def scorer_of(server, storage=SECONDS, requests=4, **changed):
    facts = inspect_checkpoint(server.model, storage=storage)
    arguments = {"model": server.model, "weights_id": facts.weights_id, "questions": QUESTIONS}
    return build_scorer(**{**arguments, "batch_size": requests, "storage": storage, **changed})


def gray_images(*shades):
    return np.stack([np.full((SIZE_PX, SIZE_PX, 3), shade, np.uint8) for shade in shades])


# 51 and 204 of 255 are brightnesses of .2 and .8.
@pytest.mark.parametrize(("kind", "mass"), [("vllm", 0.8), ("sglang", 1.0)])
def test_likelihoods_by_hand(kind, mass):
    with serve_chats(ChatServer(kind=kind)) as server:
        found = np.exp(scorer_of(server).score(gray_images(51, 204)))
    # SGLang's choice is Yes or No: the other spelling of yes has been taken out, .15 of .15 + .8, and .6 of .6 + .2.
    yes = {"vllm": (0.2 * mass, 0.8 * mass), "sglang": (0.15 / 0.95, 0.6 / 0.8)}[kind]
    expected = [
        # no, yes; yes, no for the inverted question; light, gray, dark.
        [mass - yes[0], yes[0], yes[0], mass - yes[0], 0.2 * mass, 0.4 * mass, 0.4 * mass],
        [mass - yes[1], yes[1], yes[1], mass - yes[1], 0.8 * mass, 0.1 * mass, 0.1 * mass],
    ]
    np.testing.assert_allclose(found, expected, atol=0.002)


def test_what_is_sent(server):
    scorer_of(server).score(gray_images(51))
    texts = [body["messages"][0]["content"][1]["text"] for body in server.requests]
    assert sorted(texts) == [
        "is it bright? Answer yes or no.",
        "is it dark? Answer yes or no.",
        "which color is it?\nA. light\nB. gray\nC. dark\nAnswer with the letter alone.",
    ]
    body = next(body for body in server.requests if "color" in body["messages"][0]["content"][1]["text"])
    assert {key: body[key] for key in ("model", "max_tokens", "temperature", "logprobs", "top_logprobs")} == {
        "model": "tiny-vlm",
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
    }
    assert body["structured_outputs"] == {"choice": ["A", "B", "C"]}


def answer_with(*listed):
    entries = [{"token": token, "logprob": logprob} for token, logprob in listed]
    return {"choices": [{"logprobs": {"content": [{**entries[0], "top_logprobs": entries}]}}]}


YES_NO = VqaQuestion("a hat?", ("no", "yes"))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        # No is not listed: at most what the last listed token has.
        ([("Yes", np.log(0.5)), ("A", np.log(0.25)), ("The", np.log(0.125))], [0.125, 0.5]),
        # Nothing but Yes is possible, so that nothing is left for No.
        ([("Yes", 0.0)], [1e-30, 1.0]),
        ([("Yes", np.log(0.75)), ("\u2581NO", np.log(0.125)), ("\u0120no", np.log(0.125))], [0.25, 0.75]),
        ([("No", 0.0), ("Yes", float("-inf"))], [1.0, 1e-30]),
    ],
)
def test_answers_that_are_not_listed(listed, expected):
    np.testing.assert_allclose(np.exp(read_likelihoods(answer_with(*listed), YES_NO, "here")), expected, rtol=1e-5)


def test_a_letter_is_not_a_word():
    question = VqaQuestion("color?", ("light", "gray"))
    found = read_likelihoods(answer_with((" A", np.log(0.5)), ("a", np.log(0.25)), ("B", np.log(0.25))), question, "h")
    np.testing.assert_allclose(np.exp(found), [0.5, 0.25], rtol=1e-5)


def test_a_model_that_answers_something_else_is_no_teacher(server):
    with pytest.raises(ModelError, match=r"expected one of No, Yes among the likeliest tokens, found 'A', 'The'"):
        read_likelihoods(answer_with(("A", -0.1), ("The", -3.0)), YES_NO, "here")
    server.without_logprobs = True
    with pytest.raises(ModelError, match="must give logprobs of chat completions"):
        scorer_of(server).score(gray_images(51))


def test_several_requests_at_a_time_and_none_for_no_image(server):
    scorer = scorer_of(server, requests=3)
    assert scorer.score(gray_images(0)[:0]).shape == (0, 7)
    assert server.requests == []
    together = scorer.score(gray_images(*range(10, 250, 40)))
    assert len(server.requests) == 18
    assert 1 <= server.most_at_once <= 3
    alone = [scorer.score(gray_images(shade)) for shade in range(10, 250, 40)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert scorer.answer_slices == (slice(0, 2), slice(2, 4), slice(4, 7))


def test_a_busy_server_is_asked_again_when_it_says(server):
    server.failures += [(429, {"Retry-After": "1"}), (503, {}), (500, {})]
    started = time.monotonic()
    assert scorer_of(server, requests=1).score(gray_images(204)).shape == (1, 7)
    assert time.monotonic() - started >= 1.0
    assert server.failures == []
    assert len(server.requests) == 3


def test_an_outage_ends_the_run_after_the_deadline(server):
    # Longer than the deadline: there is no use in waiting for it.
    server.failures += [(429, {"Retry-After": "3600"})]
    scorer = scorer_of(server, StorageConfig(deadline_s=0.5))
    with pytest.raises(EndpointError, match=r"no answer within 0.5 s \(status 429: not now\). No image was rejected"):
        scorer.score(gray_images(51))
    model = f"openai:http://127.0.0.1:{unused_port()}/v1#tiny-vlm"
    with pytest.raises(EndpointError, match="start the server and run the same command again"):
        inspect_checkpoint(model, storage=StorageConfig(deadline_s=0.5))


def unused_port():
    with serve_chats(ChatServer()) as server:
        return server.port


def test_a_refused_request_shows_the_servers_words(server):
    scorer = scorer_of(server)
    server.failures += [(400, {})] * 3
    with pytest.raises(ModelError, match="status 400: not now"):
        scorer.score(gray_images(51))
    with pytest.raises(ModelError, match="serves no model 'other'; it serves tiny-vlm"):
        inspect_checkpoint(server.model.replace("tiny-vlm", "other"))
    with pytest.raises(ModelError, match="status 404: Not Found"):
        inspect_checkpoint(server.model.replace("/v1", "/v2"))


def test_the_key_comes_from_the_environment_and_appears_nowhere(server, monkeypatch, caplog):
    server.key = "sk-right"
    with pytest.raises(ConfigError, match=f"status 401.*The key comes from {KEY_VARIABLE}: it is not set"):
        inspect_checkpoint(server.model)
    monkeypatch.setenv(KEY_VARIABLE, "sk-wrong-and-secret")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match="does not accept it") as caught:
        inspect_checkpoint(server.model)
    assert "wrong key: Bearer ***" in str(caught.value)  # the server repeats it, we do not
    monkeypatch.setenv(KEY_VARIABLE, "sk-right")
    facts = inspect_checkpoint(server.model)
    scorer_of(server).score(gray_images(51))
    assert "sk-" not in f"{facts}{caught.value}{caplog.text}"
    with pytest.raises(ConfigError, match="must not hold credentials"):
        parse_endpoint("openai:http://user:secret@127.0.0.1:8000/v1#m")


def test_another_model_at_the_address_is_refused(server):
    facts = inspect_checkpoint(server.model)
    assert (facts.weights_id, facts.size_px) == ("vllm:tiny-vlm:/models/tiny", 448)
    scorer = scorer_of(server)
    server.root = "/models/other"
    with pytest.raises(ModelError, match=r"began with vllm:tiny-vlm:/models/tiny, the server now has .*/models/other"):
        build_scorer(
            model=server.model, weights_id=facts.weights_id, questions=QUESTIONS, batch_size=1, storage=SECONDS
        )
    server.name = "tiny-vlm-2"  # an answer names the model that gave it
    with pytest.raises(ModelError, match="status 404"):
        scorer.score(gray_images(51))


@pytest.mark.parametrize("model", ["openai:", "openai:http://h/v1", "openai:#m", "openai:ftp://h/v1#m", "openai:h#m"])
def test_an_address_that_is_none(model):
    with pytest.raises(ConfigError, match=r"expected openai:http://HOST:PORT/v1#NAME"):
        parse_endpoint(model)


def test_settings_of_a_model_here_are_refused():
    for field, value in (("engine", "hf"), ("question_start", "enc"), ("precision", "bfloat16"), ("compile", "on")):
        config = LabelConfig(images="i", output="o", model="openai:http://h/v1#m", **{field: value})
        with pytest.raises(ConfigError, match="openai model"):
            check_options(config, "openai")


def test_too_many_answers_for_the_likelihoods_of_a_server(server):
    classes = tuple(f"class{number}" for number in range(21))
    asked = AskedAttribute(
        attribute=Attribute(name="many", kind="multiclass", classes=classes),
        questions=("which?",),
        answers=classes,
        inverted=(False,),
    )
    with pytest.raises(ConfigError, match="has 21 answers; an endpoint takes 20 at most"):
        scorer_of(server, questions=QuestionSet(name="test", asked=(asked,)))


def test_an_image_is_sent_whole_with_black_bars():
    image = np.random.default_rng(0).integers(1, 256, (30, 60, 3), np.uint8)
    found = pad_rgb(image, 120)
    assert found.shape == (120, 120, 3)
    assert not found[:30].any()
    assert not found[90:].any()
    expected = np.asarray(Image.fromarray(image).resize((120, 60), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(found[30:90], expected)
