"""The texts of the answers, embedded once.

An answer has one or more prompts, such as "a photo of a person with a hat" for yes. Its embedding is the mean of their
normalised embeddings, normalised again (prompt ensembling, Radford et al. 2021, section 3.1.4).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from faceattr.errors import ConfigError
from faceattr.vqa.contrastive.modules import ContrastiveCheckpoint

Prompts = Sequence[Sequence[Sequence[str]]]
"""For each attribute, for each of its answers, the prompts."""


def prompt_slices(prompts: Prompts) -> tuple[slice, ...]:
    """Returns the columns of each attribute's answers in the scores."""
    slices, start = [], 0
    for answers in prompts:
        slices.append(slice(start, start + len(answers)))
        start += len(answers)
    return tuple(slices)


def check_prompts(checkpoint: ContrastiveCheckpoint, prompts: Prompts) -> None:
    """Raises ConfigError if a prompt has more tokens than the model takes."""
    most = checkpoint.model.config.text_config.max_position_embeddings
    for prompt in (prompt for answers in prompts for texts in answers for prompt in texts):
        found = len(checkpoint.tokenizer(prompt)["input_ids"])
        if found > most:
            raise ConfigError(f"the prompt {prompt!r} has {found} tokens, the model takes {most}; shorten it")


@torch.inference_mode()
def embed_answers(checkpoint: ContrastiveCheckpoint, prompts: Prompts) -> Tensor:
    """Returns the answers' embeddings, float32 [total answers, D], of length 1. All prompts are embedded at once."""
    groups = [texts for answers in prompts for texts in answers]
    embeddings = embed_texts(checkpoint, [prompt for texts in groups for prompt in texts])
    means = [each.mean(dim=0) for each in embeddings.split([len(texts) for texts in groups])]
    return torch.nn.functional.normalize(torch.stack(means), dim=1)


def embed_texts(checkpoint: ContrastiveCheckpoint, texts: Sequence[str]) -> Tensor:
    """Returns the normalised embeddings of texts, float32 [n, D]."""
    tokens = _tokenize(checkpoint, texts)
    features = checkpoint.model.get_text_features(**tokens).pooler_output
    return torch.nn.functional.normalize(features, dim=1)


def _tokenize(checkpoint: ContrastiveCheckpoint, texts: Sequence[str]) -> Any:
    # As in transformers' zero-shot pipeline: SigLIP was trained on texts of full length, and reads the last token.
    if checkpoint.family == "siglip":
        length = checkpoint.model.config.text_config.max_position_embeddings
        return checkpoint.tokenizer(list(texts), padding="max_length", max_length=length, return_tensors="pt")
    return checkpoint.tokenizer(list(texts), padding=True, return_tensors="pt")
