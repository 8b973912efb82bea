"""BLIP's question encoder and answer decoder over packed text, with the checkpoint's own layers.

The encoder runs layer by layer over all packs, so that each layer projects the image tokens to keys and values once,
however many questions are asked, and only one layer's projections are in memory. The decoder does not use the image:
its cross-attention reads the encoded questions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from faceattr.vqa.blip.sequence import PackedText


class _KeyValue(NamedTuple):
    """Keys and values, each [n, heads, tokens, head width]."""

    key: Tensor
    value: Tensor


class TextScorer:
    """Computes answer log-likelihoods from image tokens."""

    def __init__(self, encoder: Any, decoder: Any, packs: Sequence[PackedText]) -> None:
        """Args: a `BlipTextModel`, a `BlipTextLMHeadModel`, and the packs on their device with masks in their dtype."""
        self._encoder = encoder
        self._decoder = decoder
        self._packs = packs

    def __call__(self, image_tokens: Tensor) -> Tensor:
        """[n, tokens, D] -> float32 [n, answers of all packs in order], natural logarithms."""
        scores = [
            self._score_answers(pack, question_states)
            for pack, question_states in zip(self._packs, self._encode_questions(image_tokens), strict=True)
        ]
        return torch.cat(scores, dim=1)

    def _encode_questions(self, image_tokens: Tensor) -> list[Tensor]:
        """Returns the states of each pack's question tokens, [n, Q, D]."""
        n = len(image_tokens)
        states = [
            _embed(self._encoder.embeddings, pack.question_ids, pack.question_positions, n) for pack in self._packs
        ]
        for layer in self._encoder.encoder.layer:
            image = _project(layer.crossattention, image_tokens)
            states = [
                _run_layer(layer, packed, self_mask=pack.question_mask, cross=image, cross_mask=None)
                for packed, pack in zip(states, self._packs, strict=True)
            ]
        return states

    def _score_answers(self, pack: PackedText, question_states: Tensor) -> Tensor:
        """float32 [n, A]."""
        bert = self._decoder.bert
        states = _embed(bert.embeddings, pack.node_ids, pack.node_positions, len(question_states))
        for layer in bert.encoder.layer:
            question = _project(layer.crossattention, question_states)
            states = _run_layer(
                layer, states, self_mask=pack.node_mask, cross=question, cross_mask=pack.node_question_mask
            )
        # Every node predicts a token, so the projection to the vocabulary is needed for all. Half precision ends here.
        logits = self._decoder.cls(states).float()
        log_norm = logits.logsumexp(dim=-1)
        token_scores = logits[:, pack.answer_nodes, pack.answer_tokens] - log_norm[:, pack.answer_nodes]
        steps = torch.arange(pack.answer_nodes.shape[1], device=logits.device)
        behind_end = steps >= pack.answer_lengths[:, None]
        return token_scores.masked_fill(behind_end, 0.0).sum(dim=-1)


def _embed(embeddings: Any, token_ids: Tensor, positions: Tensor, n: int) -> Tensor:
    return embeddings(input_ids=token_ids[None], position_ids=positions[None]).expand(n, -1, -1)


def _run_layer(layer: Any, states: Tensor, *, self_mask: Tensor, cross: _KeyValue, cross_mask: Tensor | None) -> Tensor:
    states = _attend(layer.attention, states, _project(layer.attention, states), self_mask)
    states = _attend(layer.crossattention, states, cross, cross_mask)
    return layer.feed_forward_chunk(states)


def _attend(attention: Any, states: Tensor, source: _KeyValue, mask: Tensor | None) -> Tensor:
    core = attention.self
    query = _split_heads(core.query(states), core.num_attention_heads)
    context = F.scaled_dot_product_attention(query, source.key, source.value, attn_mask=mask)
    return attention.output(context.transpose(1, 2).flatten(2), states)


def _project(attention: Any, states: Tensor) -> _KeyValue:
    core = attention.self
    heads = core.num_attention_heads
    return _KeyValue(_split_heads(core.key(states), heads), _split_heads(core.value(states), heads))


def _split_heads(states: Tensor, heads: int) -> Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)
