"""Packed text: all questions of a run in one sequence, all their answers in one tree of tokens.

Questions follow one another, positions start again at 0 with each one, and a token attends only to its own question.
The answers of a question form a tree below its own [DEC]; common prefixes share nodes. A node attends to its ancestors
and to the tokens of its own question, its position is its depth, and its logits predict the next token. So

    log p(answer | question, image) = sum over its tokens t, [SEP] included, of log p(t | the node above t)

results from one encoder and one decoder pass without any padding, equal to asking each question alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from faceattr.vqa.blip.tokens import TokenizedQuestion

MAX_PACK_TOKENS = 256
"""Tokens per pack. Attention inside a pack is quadratic and mostly masked, so longer packs only waste work."""

UNSEEN = -30_000.0
"""Added to the attention score of a masked token: its weight underflows to exactly 0, and the number is finite in every
dtype, so that no kernel computes `inf - inf`."""


@dataclass(frozen=True)
class PackedText:
    """Tensors of one pack of Q question tokens, N tree nodes and A answers of at most T tokens.

    Attributes:
        question_ids: int64 [Q], token ids of all questions.
        question_positions: int64 [Q], position inside the token's question.
        question_mask: float [Q, Q], 0 where the row attends to the column, else `UNSEEN`.
        node_ids: int64 [N], token id of each tree node; [DEC] for roots.
        node_positions: int64 [N], depth.
        node_mask: float [N, N], a node attends to itself and its ancestors.
        node_question_mask: float [N, Q], a node attends to the tokens of its question.
        answer_nodes: int64 [A, T], node whose logits predict the token; 0 after the answer's end.
        answer_tokens: int64 [A, T], the token; 0 after the answer's end.
        answer_lengths: int64 [A], tokens of the answer, [SEP] included.
    """

    question_ids: Tensor
    question_positions: Tensor
    question_mask: Tensor
    node_ids: Tensor
    node_positions: Tensor
    node_mask: Tensor
    node_question_mask: Tensor
    answer_nodes: Tensor
    answer_tokens: Tensor
    answer_lengths: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> "PackedText":
        """Returns the same pack on `device`, with masks in `dtype`."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return PackedText(
            **{name: t.to(device, dtype if t.is_floating_point() else t.dtype) for name, t in tensors.items()}
        )


def plan_packs(
    questions: Iterable[TokenizedQuestion], *, max_tokens: int = MAX_PACK_TOKENS
) -> list[list[TokenizedQuestion]]:
    """Divides questions, in order, into packs of at most `max_tokens` question tokens and as many tree nodes.

    A question with more answers than fit is repeated in the next pack with the remaining ones. Only a question or an
    answer that is itself longer than `max_tokens` makes a longer pack.
    """
    packs: list[list[TokenizedQuestion]] = []
    room = 0
    for question in questions:
        for piece in _split_answers(question, max_tokens):
            size = max(len(piece.token_ids), _count_nodes(piece.answers))
            if size > room:
                packs.append([])
                room = max_tokens
            packs[-1].append(piece)
            room -= size
    return packs


def pack(questions: Sequence[TokenizedQuestion], *, dec_token_id: int) -> PackedText:
    """Lays out one pack, on the CPU in float32.

    Args:
        questions: one pack of `plan_packs`.
        dec_token_id: id of [DEC], from which the decoder starts.
    """
    question_ids: list[int] = []
    question_positions: list[int] = []
    question_owner: list[int] = []
    tree = _Tree()
    for owner, question in enumerate(questions):
        question_ids += question.token_ids
        question_positions += range(len(question.token_ids))
        question_owner += [owner] * len(question.token_ids)
        tree.add(dec_token_id, question.answers)

    owner_of_token, owner_of_node = torch.tensor(question_owner), torch.tensor(tree.owners)
    lengths = torch.tensor([len(path) for path in tree.answer_paths])
    return PackedText(
        question_ids=torch.tensor(question_ids),
        question_positions=torch.tensor(question_positions),
        question_mask=_additive(owner_of_token[:, None] == owner_of_token[None, :]),
        node_ids=torch.tensor(tree.ids),
        node_positions=torch.tensor(tree.depths),
        node_mask=_additive(_ancestry(tree.parents)),
        node_question_mask=_additive(owner_of_node[:, None] == owner_of_token[None, :]),
        answer_nodes=_rectangle([[node for node, _ in path] for path in tree.answer_paths]),
        answer_tokens=_rectangle([[token for _, token in path] for path in tree.answer_paths]),
        answer_lengths=lengths,
    )


class _Tree:
    """Nodes of all answer trees of a pack; parents precede their children.

    Attributes:
        ids, depths, parents, owners: one entry per node; the parent of a root is the root itself.
        answer_paths: one list of (node, token) pairs per answer: the token that the node has to predict.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.depths: list[int] = []
        self.parents: list[int] = []
        self.owners: list[int] = []
        self.answer_paths: list[list[tuple[int, int]]] = []
        self._num_trees = 0

    def add(self, root_id: int, answers: Iterable[tuple[int, ...]]) -> None:
        """Adds one question's tree. The last token of an answer is only predicted, so it needs no node."""
        root = self._node(root_id, parent=len(self.ids), depth=0)
        node_of: dict[tuple[int, ...], int] = {(): root}
        for answer in answers:
            path = []
            for depth, token in enumerate(answer):
                prefix = answer[:depth]
                if prefix not in node_of:
                    node_of[prefix] = self._node(prefix[-1], parent=node_of[prefix[:-1]], depth=depth)
                path.append((node_of[prefix], token))
            self.answer_paths.append(path)
        self._num_trees += 1

    def _node(self, token_id: int, *, parent: int, depth: int) -> int:
        self.ids.append(token_id)
        self.parents.append(parent)
        self.depths.append(depth)
        self.owners.append(self._num_trees)
        return len(self.ids) - 1


def _split_answers(question: TokenizedQuestion, max_nodes: int) -> Iterator[TokenizedQuestion]:
    start = 0
    for stop in range(1, len(question.answers)):
        if _count_nodes(question.answers[start : stop + 1]) > max_nodes:
            yield replace(question, answers=question.answers[start:stop])
            start = stop
    yield replace(question, answers=question.answers[start:])


def _count_nodes(answers: Sequence[tuple[int, ...]]) -> int:
    return len({answer[:depth] for answer in answers for depth in range(len(answer))})


def _ancestry(parents: Sequence[int]) -> Tensor:
    """Returns bool [N, N], true where the column is the row or one of its ancestors."""
    sees = torch.eye(len(parents), dtype=torch.bool)
    for node, parent in enumerate(parents):
        sees[node] |= sees[parent]
    return sees


def _additive(sees: Tensor) -> Tensor:
    return torch.zeros(sees.shape).masked_fill_(~sees, UNSEEN)


def _rectangle(rows: Sequence[Sequence[int]]) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
