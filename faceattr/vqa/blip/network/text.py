"""BLIP's question encoder and answer decoder over packed text.

Both are the same transformer. Its layers alternate between the text itself and a source: the image tokens for the
encoder, the encoded questions for the decoder. All layers read the same source, so their keys and values are projected
in one matrix product, once for all packs. What depends on neither image nor source is computed once, when the module is
built: embeddings, and the first layer's attention of the text to itself.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from faceattr.vqa.blip.network.architecture import BlipArchitecture, TowerSizes
from faceattr.vqa.blip.network.layers import Dense, FeedForward, Norm, Tensors, attend, split_heads
from faceattr.vqa.blip.network.sequence import PackedText


class TextStack(nn.Module):
    """A transformer over packed text that reads a source.

    Attributes:
        layers: the transformer's layers.
        source_kv: keys and values of all layers from the source's tokens.
    """

    def __init__(self, tensors: Tensors, name: str, sizes: TowerSizes) -> None:
        """Args: the checkpoint's tensors, the name of a `BlipTextModel` in it, its sizes."""
        super().__init__()
        self._heads = sizes.heads
        layers = [f"{name}.encoder.layer.{index}" for index in range(sizes.layers)]
        self.layers = cast(Sequence[_TextLayer], nn.ModuleList(_TextLayer(tensors, layer, sizes) for layer in layers))
        self.source_kv = Dense.load(
            tensors, *(f"{layer}.crossattention.self.{part}" for layer in layers for part in ("key", "value"))
        )
        self._embeddings = f"{name}.embeddings"
        self._eps = sizes.eps

    def embed(self, tensors: Tensors, token_ids: Tensor, positions: Tensor) -> Tensor:
        """int64 [tokens] each -> float32 [1, tokens, D]. The embeddings are not kept: no later text needs them."""
        words = tensors[f"{self._embeddings}.word_embeddings.weight"][token_ids].float()
        states: Tensor = words + tensors[f"{self._embeddings}.position_embeddings.weight"][positions].float()
        return Norm(tensors, f"{self._embeddings}.LayerNorm", self._eps)(states)[None]

    def project(self, source: Tensor) -> tuple[Tensor, ...]:
        """[n, tokens, D] -> key and value of each layer in turn, views [n, tokens, heads, head width]."""
        return split_heads(self.source_kv(source), 2 * len(self.layers), self._heads)

    def forward(
        self, states: Tensor, source: tuple[Tensor, ...], *, mask: Tensor, source_mask: Tensor | None
    ) -> Tensor:
        """Returns the states after the last layer, [n, tokens, D].

        Args:
            states: [n, tokens, D], in front of the first layer's attention to the source.
            source: from `project`.
            mask: [tokens, tokens], added to the scores of the text's attention to itself.
            source_mask: [tokens, source tokens], added to the scores of its attention to the source.
        """
        for index, layer in enumerate(self.layers):
            if index > 0:
                states = layer.attend_to_itself(states, mask)
            states = layer.attend_to_source(states, source[2 * index], source[2 * index + 1], source_mask)
        return states


class TextScorer(nn.Module):
    """Computes answer log-likelihoods from image tokens."""

    def __init__(self, tensors: Tensors, architecture: BlipArchitecture, packs: Sequence[PackedText]) -> None:
        """Args: the checkpoint's tensors and sizes, and the packs, on the CPU in float32."""
        super().__init__()
        self.encoder = TextStack(tensors, "text_encoder", architecture.text)
        self.decoder = TextStack(tensors, "text_decoder.bert", architecture.text)
        self.packs = cast(
            Sequence[_Pack], nn.ModuleList(_Pack(tensors, pack, self.encoder, self.decoder) for pack in packs)
        )
        self.head = _Head(tensors, "text_decoder.cls.predictions", architecture.text.eps)

    def forward(self, image_tokens: Tensor) -> Tensor:
        """[n, tokens, D] -> float32 [n, answers of all packs in order], natural logarithms."""
        image = self.encoder.project(image_tokens)
        return torch.cat([self._score(pack, image, len(image_tokens)) for pack in self.packs], dim=1)

    def _score(self, pack: "_Pack", image: tuple[Tensor, ...], n: int) -> Tensor:
        """float32 [n, A]."""
        questions = self.encoder(
            pack.question_start.expand(n, -1, -1), image, mask=pack.question_mask, source_mask=None
        )
        nodes = self.decoder(
            pack.node_start.expand(n, -1, -1),
            self.decoder.project(questions),
            mask=pack.node_mask,
            source_mask=pack.node_question_mask,
        )
        # Every node predicts a token, so the projection to the vocabulary is needed for all. Half precision ends here.
        logits = self.head(nodes).float()
        log_norm = logits.logsumexp(dim=-1)
        token_scores = logits[:, pack.answer_nodes, pack.answer_tokens] - log_norm[:, pack.answer_nodes]
        return token_scores.masked_fill(pack.behind_end, 0.0).sum(dim=-1)


class _TextLayer(nn.Module):
    def __init__(self, tensors: Tensors, name: str, sizes: TowerSizes) -> None:
        super().__init__()
        self._heads = sizes.heads
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
