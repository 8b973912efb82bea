"""BLIP's question encoder and answer decoder over packed text.

Both are the same transformer. Its layers alternate between the text itself and a source: the image tokens for the
encoder, the encoded questions for the decoder. All layers read the same source, so the keys and values of several
layers come from one matrix product, once for all packs. What depends on neither image nor source is computed once, when
the module is built: embeddings, and the first layer's attention of the text to itself.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from faceattr.vqa.blip.network.architecture import BlipArchitecture, TowerSizes
from faceattr.vqa.blip.network.layers import Dense, FeedForward, Norm, Tensors, attend, split_heads
from faceattr.vqa.blip.network.sequence import PackedText


class Text(NamedTuple):
    """A packed text for a `TextStack`.

    Attributes:
        start: [1, tokens, D], its states in front of the first layer's attention to the source.
        mask: [tokens, tokens], added to the scores of its attention to itself.
        source_mask: [tokens, source tokens], added to the scores of its attention to the source; None for nothing.
    """

    start: Tensor
    mask: Tensor
    source_mask: Tensor | None


class TextStack(nn.Module):
    """A transformer over packed text that reads a source.

    Attributes:
        layers: the transformer's layers.
        source_kv: keys and values from the source's tokens, of as many layers as one matrix product is for.
    """

    def __init__(self, tensors: Tensors, name: str, sizes: TowerSizes, *, layers_at_once: int) -> None:
        """Args: the checkpoint's tensors, the name of a `BlipTextModel` in it, its sizes; see `BlipNetwork`."""
        super().__init__()
        self._heads = sizes.heads
        self._layers_at_once = layers_at_once
        names = [f"{name}.encoder.layer.{index}" for index in range(sizes.layers)]
        self.layers = cast(Sequence[_TextLayer], nn.ModuleList(_TextLayer(tensors, each, sizes) for each in names))
        parts = [[f"{each}.crossattention.self.{part}" for part in ("key", "value")] for each in names]
        self.source_kv = nn.ModuleList(
            Dense.load(tensors, *chain.from_iterable(parts[start : start + layers_at_once]))
            for start in range(0, sizes.layers, layers_at_once)
        )
        self._embeddings = f"{name}.embeddings"
        self._eps = sizes.eps

    def embed(self, tensors: Tensors, token_ids: Tensor, positions: Tensor) -> Tensor:
        """int64 [tokens] each -> float32 [1, tokens, D]. The embeddings are not kept: no later text needs them."""
        words = tensors[f"{self._embeddings}.word_embeddings.weight"][token_ids].float()
        states: Tensor = words + tensors[f"{self._embeddings}.position_embeddings.weight"][positions].float()
        return Norm(tensors, f"{self._embeddings}.LayerNorm", self._eps)(states)[None]

    def forward(self, texts: Sequence[Text], source: Tensor) -> list[Tensor]:
        """Returns the states of each text after the last layer, [n, tokens, D].

        Args:
            texts: texts that read the same source.
            source: [n, source tokens, D].
        """
        states = [text.start.expand(len(source), -1, -1) for text in texts]
        keys_values: tuple[Tensor, ...] = ()
        for index, layer in enumerate(self.layers):
            group, place = divmod(index, self._layers_at_once)
            if place == 0:
                projected = self.source_kv[group](source)
                keys_values = projected.unflatten(-1, (-1, self._heads, layer.head_width)).unbind(2)
            if index > 0:
                states = [layer.attend_to_itself(each, text.mask) for each, text in zip(states, texts, strict=True)]
            key, value = keys_values[2 * place : 2 * place + 2]
            states = [
                layer.attend_to_source(each, key, value, text.source_mask)
                for each, text in zip(states, texts, strict=True)
            ]
        return states


class TextScorer(nn.Module):
    """Computes answer log-likelihoods from image tokens."""

    def __init__(
        self,
        tensors: Tensors,
        architecture: BlipArchitecture,
        packs: Sequence[PackedText],
        *,
        layers_at_once: int,
    ) -> None:
        """Args: the checkpoint's tensors and sizes; the packs, on the CPU in float32; see `BlipNetwork`."""
        super().__init__()
        sizes = architecture.text
        self.encoder = TextStack(tensors, "text_encoder", sizes, layers_at_once=layers_at_once)
        self.decoder = TextStack(tensors, "text_decoder.bert", sizes, layers_at_once=layers_at_once)
        self.packs = cast(
            Sequence[_Pack], nn.ModuleList(_Pack(tensors, pack, self.encoder, self.decoder) for pack in packs)
        )
        self.head = _Head(tensors, "text_decoder.cls.predictions", sizes.eps)

    def forward(self, image_tokens: Tensor) -> Tensor:
        """[n, tokens, D] -> float32 [n, answers of all packs in order], natural logarithms."""
        questions = self.encoder([pack.questions for pack in self.packs], image_tokens)
        scores = [self._score(pack, states) for pack, states in zip(self.packs, questions, strict=True)]
        return torch.cat(scores, dim=1)

    def _score(self, pack: "_Pack", question_states: Tensor) -> Tensor:
        """float32 [n, A]."""
        (nodes,) = self.decoder([pack.nodes], question_states)
        # Every node predicts a token, so the projection to the vocabulary is needed for all. Half precision ends here.
        logits = self.head(nodes).float()
        log_norm = logits.logsumexp(dim=-1)
        token_scores = logits[:, pack.answer_nodes, pack.answer_tokens] - log_norm[:, pack.answer_nodes]
        return token_scores.masked_fill(pack.behind_end, 0.0).sum(dim=-1)


class _TextLayer(nn.Module):
    def __init__(self, tensors: Tensors, name: str, sizes: TowerSizes) -> None:
        super().__init__()
        self._heads = sizes.heads
        self.head_width = sizes.width // sizes.heads
        own, cross = f"{name}.attention", f"{name}.crossattention"
        self.qkv = Dense.load(tensors, *(f"{own}.self.{part}" for part in ("query", "key", "value")))
        self.projection = Dense.load(tensors, f"{own}.output.dense")
        self.norm = Norm(tensors, f"{own}.output.LayerNorm", sizes.eps)
        self.source_query = Dense.load(tensors, f"{cross}.self.query")
        self.source_projection = Dense.load(tensors, f"{cross}.output.dense")
        self.source_norm = Norm(tensors, f"{cross}.output.LayerNorm", sizes.eps)
        self.mlp = FeedForward(
            Dense.load(tensors, f"{name}.intermediate.dense"), Dense.load(tensors, f"{name}.output.dense")
        )
        self.mlp_norm = Norm(tensors, f"{name}.output.LayerNorm", sizes.eps)

    def attend_to_itself(self, states: Tensor, mask: Tensor) -> Tensor:
        query, key, value = split_heads(self.qkv(states), 3, self._heads)
        return self.norm(self.projection(attend(query, key, value, mask)) + states)

    def attend_to_source(self, states: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        (query,) = split_heads(self.source_query(states), 1, self._heads)
        states = self.source_norm(self.source_projection(attend(query, key, value, mask)) + states)
        return self.mlp_norm(self.mlp(states) + states)


class _Head(nn.Module):
    """States of the decoder -> logits of all tokens."""

    def __init__(self, tensors: Tensors, name: str, eps: float) -> None:
        super().__init__()
        self.dense = Dense.load(tensors, f"{name}.transform.dense")
        self.norm = Norm(tensors, f"{name}.transform.LayerNorm", eps)
        self.vocabulary = Dense.load(tensors, f"{name}.decoder")

    def forward(self, states: Tensor) -> Tensor:
        return self.vocabulary(self.norm(F.gelu(self.dense(states))))


class _Pack(nn.Module):
    """What is fixed about one pack, on the device of the network and with masks in its precision."""

    question_start: Tensor
    question_mask: Tensor
    node_start: Tensor
    node_mask: Tensor
    node_question_mask: Tensor
    answer_nodes: Tensor
    answer_tokens: Tensor
    behind_end: Tensor

    def __init__(self, tensors: Tensors, pack: PackedText, encoder: TextStack, decoder: TextStack) -> None:
        super().__init__()
        questions = encoder.embed(tensors, pack.question_ids, pack.question_positions)
        nodes = decoder.embed(tensors, pack.node_ids, pack.node_positions)
        steps = torch.arange(pack.answer_nodes.shape[1])
        fixed = {
            "question_start": encoder.layers[0].attend_to_itself(questions, pack.question_mask),
            "question_mask": pack.question_mask,
            "node_start": decoder.layers[0].attend_to_itself(nodes, pack.node_mask),
            "node_mask": pack.node_mask,
            "node_question_mask": pack.node_question_mask,
            "answer_nodes": pack.answer_nodes,
            "answer_tokens": pack.answer_tokens,
            "behind_end": steps >= pack.answer_lengths[:, None],
        }
        for name, tensor in fixed.items():
            self.register_buffer(name, tensor)

    @property
    def questions(self) -> Text:
        return Text(self.question_start, self.question_mask, None)

    @property
    def nodes(self) -> Text:
        return Text(self.node_start, self.node_mask, self.node_question_mask)
