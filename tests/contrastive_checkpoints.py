"""Random CLIP and SigLIP checkpoints, small, on disk as a user would have them."""

import string
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

_CHARACTERS = string.ascii_lowercase + string.digits + "?,.'-"
MOST_TOKENS = 100
# Depths and head counts differ between the towers, so that no two can be mixed up unseen.
_TEXT = {"hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 5}
_VISION = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4}


def save_random_clip(folder: Path, *, image: int = 32, patch: int = 8, seed: int = 0, **processor: Any) -> Path:
    """Writes a random CLIP checkpoint; each character is a token. `processor` are settings of its image processor."""
    tokens = ["<|startoftext|>", "<|endoftext|>", *_CHARACTERS, *(f"{each}</w>" for each in _CHARACTERS)]
    tokenizer = CLIPTokenizer(vocab={token: place for place, token in enumerate(tokens)}, merges=[])
    text = _TEXT | {"vocab_size": len(tokens), "max_position_embeddings": MOST_TOKENS, "eos_token_id": 1}
    text |= {"bos_token_id": 0, "pad_token_id": 1}
    vision = _VISION | {"image_size": image, "patch_size": patch}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    sizes = {"size": {"shortest_edge": image}, "crop_size": {"height": image, "width": image}}
    _save(CLIPModel, config, folder, seed)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(**sizes | processor).save_pretrained(folder)
    return folder


def save_random_siglip(folder: Path, *, image: int = 32, patch: int = 8, seed: int = 0, **processor: Any) -> Path:
    """Writes a random SigLIP checkpoint with SigLIP 2's tokenizer; each character is a token."""
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *_CHARACTERS, "\N{LOWER ONE EIGHTH BLOCK}"]
    tokenizer = Siglip2Tokenizer(vocab={token: place for place, token in enumerate(tokens)}, merges=[])
    text = _TEXT | {"vocab_size": len(tokens), "max_position_embeddings": MOST_TOKENS, "projection_size": 48}
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    vision = _VISION | {"image_size": image, "patch_size": patch}
    config = SiglipConfig(text_config=text, vision_config=vision)
    _save(SiglipModel, config, folder, seed)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessor(**{"size": {"height": image, "width": image}} | processor).save_pretrained(folder)
    return folder


def _save(model_class: Any, config: Any, folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = model_class(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Biases and norms start at 0 and 1, where a forgotten one would go unnoticed.
            if name == "logit_scale":
                parameter.fill_(3.0)
            elif name == "logit_bias":
                parameter.fill_(-1.0)
            elif parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "position" not in name:
                parameter.mul_(3.0)
    model.save_pretrained(folder)
