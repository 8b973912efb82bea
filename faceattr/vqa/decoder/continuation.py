"""All questions and answers as one continuation of the tokens that they share.

    shared:        [system, image, "is the person "]          in the key-value cache, once for each image
    continuation:  [q1 ...][a11][a12 ...][q2 ...][a21]...     each token sees the shared ones, and of the continuation
                                                              its own question and answer alone

Positions go on where the shared tokens end, for each question and for each of its answers again, so that every token
is computed from the same inputs as if its question and answer were asked alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from faceattr.vqa.decoder.prompts import PromptedQuestion


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """T tokens after P shared ones, and where the logits of the answers' tokens are read.

    Attributes:
        prefix: int64 [P], the shared tokens.
        token_ids: int64 [T].
        offsets: int64 [T], positions after the shared tokens.
        visible: bool [T, P + T], which keys each token sees.
        read_at: int64 [K], places in the continuation after which a token of an answer follows.
        scored: int64 [3, M]: for each token of an answer the index into `read_at`, the token, and the answer.
        num_answers: answers of all questions.
    """

    prefix: Tensor
    token_ids: Tensor
    offsets: Tensor
    visible: Tensor
    read_at: Tensor
    scored: Tensor
    num_answers: int

    def to(self, device: torch.device) -> "Continuation":
        """Returns the same on a device."""
        fields = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Continuation(**fields, num_answers=self.num_answers)

    def sum_answers(self, logits: Tensor) -> Tensor:
        """Returns log p(whole answer), float32 [n, answers], from logits [n, K, vocabulary] at `read_at`."""
        place, token, answer = self.scored
        logits = logits.float()
        found = logits[:, place, token] - logits.logsumexp(dim=-1)[:, place]
        return torch.zeros(len(logits), self.num_answers, device=logits.device).index_add_(1, answer, found)


def build_continuation(questions: Sequence[PromptedQuestion], num_shared: int) -> Continuation:
    """Joins questions and answers behind their first `num_shared` tokens; see the module."""
    token_ids: list[int] = []
    offsets: list[int] = []
    parents: list[range] = []  # for each token, the question's tokens that it sees
    starts: list[int] = []  # for each token, where its own segment begins
    read_at: dict[int, int] = {}
    scored: list[tuple[int, int, int]] = []
    num_answers = 0

    def append(segment: Sequence[int], *, offset: int, parent: range) -> range:
        first = len(token_ids)
        token_ids.extend(segment)
        offsets.extend(range(offset, offset + len(segment)))
        parents.extend([parent] * len(segment))
        starts.extend([first] * len(segment))
        return range(first, len(token_ids))

    for question in questions:
        asked = append(question.prompt[num_shared:], offset=0, parent=range(0))
        for answer in question.answers:
            # The token that ends an answer is scored; nothing is read after it.
            said = append(answer[:-1], offset=len(asked), parent=asked)
            for before, token in zip([asked[-1], *said], answer, strict=True):
                scored.append((read_at.setdefault(before, len(read_at)), token, num_answers))
            num_answers += 1
    own = torch.zeros(len(token_ids), len(token_ids), dtype=torch.bool)
    for token, (parent, start) in enumerate(zip(parents, starts, strict=True)):
        own[token, parent.start : parent.stop] = True
        own[token, start : token + 1] = True
    shared = torch.ones(len(token_ids), num_shared, dtype=torch.bool)
    return Continuation(
        prefix=torch.tensor(questions[0].prompt[:num_shared]),
        token_ids=torch.tensor(token_ids),
        offsets=torch.tensor(offsets),
        visible=torch.cat([shared, own], dim=1),
        read_at=torch.tensor(list(read_at)),
        scored=torch.tensor(scored).T.contiguous(),
        num_answers=num_answers,
    )
