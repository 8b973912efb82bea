"""Questions and answers as token ids; texts that the model would not see as written are refused.

question  [CLS] is there a hat ? [SEP]      ([ENC] instead of [CLS] with question_start="enc")
answer          yes [SEP]                   (the decoder itself starts from [DEC])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from faceattr.errors import ConfigError
from faceattr.vqa.questions import VqaQuestion

QuestionStart = Literal["cls", "enc"]


class BertTokens(Protocol):
    """What is used of a BERT tokenizer: ours (`faceattr.vqa.blip.tokenizer`) or transformers' own.

    Attributes:
        unk_token_id: id of what the vocabulary does not know.
        sep_token_id: id of [SEP].
    """

    unk_token_id: int
    sep_token_id: int

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Returns the token ids of a text, with [CLS] and [SEP] around them if `add_special_tokens`."""
        ...

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """Returns the id of a token; None or `unk_token_id` if there is none."""
        ...


@dataclass(frozen=True)
class TokenizedQuestion:
    """One question as token ids.

    Attributes:
        token_ids: the question with its first token and the final [SEP].
        answers: token ids of each answer with the final [SEP]; never empty, all different.
    """

    token_ids: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]


def tokenize_questions(
    tokenizer: BertTokens, questions: Sequence[VqaQuestion], *, question_start: QuestionStart, max_positions: int
) -> list[TokenizedQuestion]:
    """Converts questions and answers to token ids.

    Args:
        tokenizer: the checkpoint's BERT tokenizer.
        questions: at least one.
        question_start: `cls` keeps the tokenizer's [CLS] as first token, as the published Hugging Face port does; `enc`
            replaces it by [ENC], as the original BLIP code does.
        max_positions: number of position embeddings of the text model.

    Raises:
        ConfigError: a question or answer is empty, too long or unknown to the vocabulary, or an answer is given twice.
    """
    if not questions:
        raise ConfigError("expected at least one question, found none")
    return [_tokenize(tokenizer, question, question_start, max_positions) for question in questions]


def _tokenize(
    tokenizer: BertTokens, question: VqaQuestion, question_start: QuestionStart, max_positions: int
) -> TokenizedQuestion:
    if not question.answers:
        raise ConfigError(f"question {question.text!r} has no answers to score")
    token_ids = tokenizer.encode(question.text)
    if len(token_ids) == 2:  # the first token and [SEP]
        raise ConfigError(f"question {question.text!r} is empty")
    if all(token == tokenizer.unk_token_id for token in token_ids[1:-1]):
        raise ConfigError(f"question {question.text!r}: the checkpoint's vocabulary knows none of its words")
    if question_start == "enc":
        token_ids[0] = _enc_token_id(tokenizer)
    if len(token_ids) > max_positions:
        raise ConfigError(
            f"question {question.text[:60]!r}... has {len(token_ids)} tokens, the model takes "
            f"{max_positions}; shorten it"
        )
    seen: dict[tuple[int, ...], str] = {}
    for answer in question.answers:
        answer_ids = _tokenize_answer(tokenizer, question.text, answer, max_positions)
        if answer_ids in seen:
            raise ConfigError(
                f"question {question.text!r}: the answers {seen[answer_ids]!r} and {answer!r} are the same to the "
                "model; remove one, or its probability counts twice"
            )
        seen[answer_ids] = answer
    return TokenizedQuestion(token_ids=tuple(token_ids), answers=tuple(seen))


def _tokenize_answer(tokenizer: BertTokens, question: str, answer: str, max_positions: int) -> tuple[int, ...]:
    token_ids = tokenizer.encode(answer, add_special_tokens=False)
    where = f"question {question!r}, answer {answer[:60]!r}"
    if not token_ids:
        raise ConfigError(f"{where}: the answer is empty")
    if tokenizer.unk_token_id in token_ids:
        raise ConfigError(f"{where}: the checkpoint's vocabulary does not know it; choose words that the model can say")
    if len(token_ids) >= max_positions:  # [DEC] takes the first position
        raise ConfigError(f"{where}: {len(token_ids)} tokens, the model can say {max_positions - 1}; shorten it")
    return (*token_ids, tokenizer.sep_token_id)


def _enc_token_id(tokenizer: BertTokens) -> int:
    token_id = tokenizer.convert_tokens_to_ids("[ENC]")
    if token_id is None or token_id == tokenizer.unk_token_id:
        raise ConfigError('question_start="enc": the checkpoint\'s vocabulary has no [ENC] token; use "cls"')
    return int(token_id)
