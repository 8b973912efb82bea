"""One question about one image as a request, and the likelihoods of its answers in what the server answers.

The answer is a single token: `Yes` or `No`, or, for other answers, the letter of one of the listed answers. The fields
are those that vLLM and SGLang document for chat completions:

    messages                 the image as a data URL (`image_url`), then the question (`text`)
    max_tokens, temperature  1 and 0: one token, the likeliest
    logprobs, top_logprobs   true and 20, the most that vLLM gives by default
    structured_outputs       vLLM: {"choice": [...]}, the answer is one of these
    regex                    SGLang: likewise

    choices[0].logprobs.content[0].top_logprobs    list of {"token", "logprob"}, natural logarithms

An answer's probability is the sum over the listed tokens that say it, with or without a space, yes and no in any case.
vLLM gives the probabilities before the choice is enforced (its default, `--logprobs-mode raw_logprobs`), so that their
sum is a mass. SGLang gives them after it: tokens that are no choice have none, null or -inf, and the mass is 1. An
answer that is not among the listed tokens gets the most that it can have: the probability of the last listed token, or
what is left of 1.
"""

import base64
import math
import string
from typing import Any

import numpy as np
import simplejpeg

from faceattr.errors import ModelError
from faceattr.vqa.questions import VqaQuestion

TOP_LOGPROBS = 20
MOST_ANSWERS = TOP_LOGPROBS
_JPEG_QUALITY = 95
_LEAST = 1e-30
# Spaces, and how tokenizers write them (SentencePiece, byte-level BPE).
_SPACES = " \t\n\u2581\u0120"


def encode_image(image: np.ndarray) -> str:
    """Returns an image, uint8 [S, S, 3], as a data URL: JPEG of quality 95 without chroma subsampling."""
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=_JPEG_QUALITY, colorsubsampling="444")
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def list_choices(question: VqaQuestion) -> tuple[str, ...]:
    """Returns the token that stands for each answer of a question, in the order of its answers."""
    if _is_yes_no(question):
        return tuple(answer.capitalize() for answer in question.answers)
    return tuple(string.ascii_uppercase[: len(question.answers)])


def _is_yes_no(question: VqaQuestion) -> bool:
    return {answer.casefold() for answer in question.answers} == {"no", "yes"}


def build_request(model: str, image_url: str, question: VqaQuestion, server: str) -> dict[str, Any]:
    """Returns the body of a request.

    Args:
        model: name of the model at the server.
        image_url: from `encode_image`.
        question: the question.
        server: what the server is, by `owned_by` of its models; `vllm` and `sglang` are told the choices.
    """
    choices = list_choices(question)
    if _is_yes_no(question):
        text = f"{question.text} Answer yes or no."
    else:
        listed = [f"{choice}. {answer}" for choice, answer in zip(choices, question.answers, strict=True)]
        text = "\n".join([question.text, *listed, "Answer with the letter alone."])
    content = [{"type": "image_url", "image_url": {"url": image_url}}, {"type": "text", "text": text}]
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": TOP_LOGPROBS,
    }
    match server:
        case "vllm":
            body["structured_outputs"] = {"choice": list(choices)}
        case "sglang":
            body["regex"] = f"({'|'.join(choices)})"
    return body


def read_likelihoods(answer: dict[str, Any], question: VqaQuestion, where: str) -> np.ndarray:
    """Returns natural logarithms of the answers' probabilities, float32 [answers].

    Args:
        answer: what the server answered.
        question: the question.
        where: the server, for errors.

    Raises:
        ModelError: there are no logprobs, or none of the answers is among them.
    """
    try:
        first = answer["choices"][0]["logprobs"]["content"][0]
        listed = [(each["token"], _probability(each["logprob"])) for each in first["top_logprobs"]]
        if first["token"] not in dict(listed):
            listed.append((first["token"], _probability(first["logprob"])))
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"{where}: expected choices[0].logprobs.content[0].top_logprobs in the answer, found none; the server must "
            "give logprobs of chat completions"
        ) from error
    said = dict.fromkeys(list_choices(question), 0.0)
    for token, probability in listed:
        word = token.strip(_SPACES)
        choice = word.capitalize() if _is_yes_no(question) else word
        if choice in said:
            said[choice] += probability
    if not any(said.values()):
        raise ModelError(
            f"{where}: expected one of {', '.join(list_choices(question))} among the likeliest tokens, found "
            f"{', '.join(repr(token) for token, _ in listed[:5])}; the model does not answer "
            f"{question.text!r} as it is told to"
        )
    probabilities = [probability for _, probability in listed]
    bound = min(*probabilities, 1.0 - sum(probabilities))
    values = [value or bound for value in said.values()]
    return np.log(np.clip(values, _LEAST, 1.0)).astype(np.float32)


def _probability(logprob: float | None) -> float:
    return 0.0 if logprob is None or math.isnan(logprob) else math.exp(min(logprob, 0.0))
