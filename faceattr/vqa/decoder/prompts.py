"""Questions and answers as token ids, by a model's own chat template.

A question is a user's turn with the image and the text; an answer is the assistant's turn, up to and with the token by
which the template ends it. So log p(answer | question, image) is that of the whole answer, as the model would write it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceattr.errors import ConfigError, ModelError
from faceattr.vqa.decoder.checkpoint import DecoderCheckpoint
from faceattr.vqa.questions import VqaQuestion


@dataclass(frozen=True)
class PromptedQuestion:
    """One question, ready for the model.

    Attributes:
        prompt: token ids up to where the answer begins, the image's included.
        answers: token ids of each answer with the token that ends it.
        texts: the whole chat with each answer, for the processor.
    """

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]


def prompt_questions(checkpoint: DecoderCheckpoint, questions: Sequence[VqaQuestion]) -> tuple[PromptedQuestion, ...]:
    """Renders and tokenises questions with their answers.

    Raises:
        ConfigError: a question or an answer has a special token in its text.
        ModelError: the chat template does not continue a question by its answer and an end.
    """
    return tuple(_prompt(checkpoint, question) for question in questions)


def shared_prefix(questions: Sequence[PromptedQuestion]) -> int:
    """Returns the number of leading tokens that all prompts share, at least one fewer than the shortest has.

    The last token of a prompt is never among them, since the first token of an answer is read from it.
    """
    prompts = [question.prompt for question in questions]
    same = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return min(len(list(same)), min(map(len, prompts)) - 1)


def _prompt(checkpoint: DecoderCheckpoint, question: VqaQuestion) -> PromptedQuestion:
    processor = checkpoint.processor
    # Also those that the tokenizer has no name for.
    special = {number for number, token in processor.tokenizer.added_tokens_decoder.items() if token.special}
    for text in (question.text, *question.answers):
        found = special.intersection(processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        if found:
            tokens = processor.tokenizer.convert_ids_to_tokens(sorted(found))
            raise ConfigError(f"--attributes: {text!r} contains {tokens}, which mean something to the model's template")
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question.text}]}]
    prompt_text = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    prompt = _tokenize(checkpoint, prompt_text)
    answers, texts = [], []
    for answer in question.answers:
        said = [*asked, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
        text = processor.apply_chat_template(said, add_generation_prompt=False, tokenize=False)
        tokens = _tokenize(checkpoint, text)
        rest = tokens[len(prompt) :]
        end = next((place for place, number in enumerate(rest) if number in special), 0)
        if tokens[: len(prompt)] != prompt or end == 0:
            raise ModelError(
                f"{checkpoint.folder}: expected the chat template to render a question, its answer, and a special "
                f"token that ends it, found {prompt_text!r} for the question and {text!r} with the answer {answer!r}"
            )
        answers.append(rest[: end + 1])
        texts.append(text)
    return PromptedQuestion(prompt=prompt, answers=tuple(answers), texts=tuple(texts))


def _tokenize(checkpoint: DecoderCheckpoint, text: str) -> tuple[int, ...]:
    size = checkpoint.square.size_px
    # The image's pixels do not decide its tokens.
    encoded = checkpoint.encode([text], [np.zeros((size, size, 3), np.uint8)])
    return tuple(encoded["input_ids"][0].tolist())
