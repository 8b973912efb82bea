"""Random BLIP checkpoints, small, on disk as a user would have them."""

from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)

WORDS = [
    *("is", "are", "there", "a", "the", "person", "man", "woman", "wearing", "hat", "glasses", "beard", "on", "face"),
    *("does", "have", "what", "color", "hair", "how", "old", "yes", "no", "none", "black", "brown", "light", "blond"),
    *("gray", "red", "##ish", "##dish", "and", "young", "very", "?", ",", "_"),
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = {token: i for i, token in enumerate([*SPECIAL, *WORDS, "[DEC]", "[ENC]"])}

# Depths and head counts differ between the towers, so that no two can be mixed up unseen. The widths cannot differ:
# the decoder reads question states through projections of the vision tower's width.
SIZES = {
    "small": {"image": 32, "patch": 8, "width": 48, "layers": 2, "heads": 4, "text_layers": 3, "text_heads": 2},
    "uneven": {"image": 50, "patch": 12, "width": 96, "layers": 3, "heads": 2, "text_layers": 1, "text_heads": 3},
    "deep": {"image": 64, "patch": 16, "width": 80, "layers": 4, "heads": 8, "text_layers": 5, "text_heads": 5},
}


def save_random_checkpoint(
    folder: Path,
    *,
    image: int,
    patch: int,
    width: int,
    layers: int,
    heads: int,
    text_layers: int,
    text_heads: int,
    max_positions: int = 40,
    mlp_ratio: int = 2,
    num_tokens: int = len(VOCABULARY),
    seed: int = 0,
    scale: float = 4.0,
) -> Path:
    """Writes a random BLIP VQA checkpoint. `scale` widens the weights, so that the image moves the answers visibly.

    `num_tokens` is the size of the vocabulary; the tokens beyond `VOCABULARY` mean nothing.
    """
    vocabulary = VOCABULARY | {f"filler{number}": number for number in range(len(VOCABULARY), num_tokens)}
    tokenizer = BertTokenizer(vocab=vocabulary, bos_token="[DEC]", additional_special_tokens=["[ENC]"])
    config = BlipConfig(
        text_config=BlipTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=width,
            intermediate_size=width * mlp_ratio,
            num_hidden_layers=text_layers,
            num_attention_heads=text_heads,
            max_position_embeddings=max_positions,
            bos_token_id=VOCABULARY["[DEC]"],
            sep_token_id=VOCABULARY["[SEP]"],
            eos_token_id=VOCABULARY["[SEP]"],
            pad_token_id=VOCABULARY["[PAD]"],
            initializer_range=0.02,
        ).to_dict(),
        vision_config=BlipVisionConfig(
            hidden_size=width,
            intermediate_size=width * mlp_ratio,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            image_size=image,
            patch_size=patch,
            initializer_range=0.02,
        ).to_dict(),
    )
    torch.manual_seed(seed)
    model = BlipForQuestionAnswering(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Biases and norms start at 0 and 1, where a forgotten one would go unnoticed.
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "word_embeddings" not in name:
                parameter.mul_(scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    BlipImageProcessor(size={"height": image, "width": image}).save_pretrained(folder)
    return folder
