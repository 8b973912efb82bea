"""Random image-text-to-text checkpoints, small, on disk as a user would have them.

The chat templates are written as the published models' are: where the image goes, what ends a turn, and whether a
system message comes first. A byte-level tokenizer with a few merges knows every text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, ProcessorMixin

_WORDS = (
    *("is", "are", "does", "yes", "no", "hat", "man", "woman", "user", "system", "assistant", "User", "Assistant"),
    *(" a", " the", " is", " are", " there", " person", " wearing", " hat", " glasses", " have", " beard", " or"),
    *(" on", " man", " woman", " face", " head", " smiling", " mouth", " open", " eyes", " closed", " yes", " no"),
)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Depths and head counts differ between the towers, so that no two can be mixed up unseen.

    Attributes:
        merge: patches, along each side, that become one token.
        published: a config.json, whose sections are put over what the other sizes say.
    """

    image: int = 32
    patch: int = 8
    vision_width: int = 24
    vision_layers: int = 2
    vision_heads: int = 3
    width: int = 32
    layers: int = 3
    heads: int = 4
    key_heads: int = 2
    mlp_ratio: int = 2
    merge: int = 2
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return (self.image // self.patch // self.merge) ** 2

    def over(self, section: str, values: dict[str, Any]) -> dict[str, Any]:
        return values | self.published.get(section, {})

    @property
    def text(self) -> dict[str, Any]:
        return {
            "hidden_size": self.width,
            "intermediate_size": self.width * self.mlp_ratio,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_heads,
            "bos_token_id": None,
            "eos_token_id": None,
        }

    @property
    def siglip(self) -> dict[str, Any]:
        return {
            "hidden_size": self.vision_width,
            "intermediate_size": self.vision_width * self.mlp_ratio,
            "num_hidden_layers": self.vision_layers,
            "num_attention_heads": self.vision_heads,
            "image_size": self.image,
            "patch_size": self.patch,
        }


def _turns(image: str) -> str:
    return (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '"
        + image
        + "' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )


_IDEFICS3_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
_QWEN_TEMPLATE = "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}" + _turns(
    "<|vision_start|><|image_pad|><|vision_end|>"
)


def _tokenizer(special: str, *, end: str, **names: str) -> PreTrainedTokenizerFast:
    """Returns a byte-level tokenizer with the merges of a few words and with special tokens, the ending one first."""
    vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in (each.replace(" ", "\u0120") for each in _WORDS):
        for length in range(2, len(word) + 1):
            if word[:length] not in vocabulary:
                merges.append((word[: length - 1], word[length - 1]))
                vocabulary.append(word[:length])
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, pad_token="<pad>", extra_special_tokens=special.split(), **names
    )


def _idefics3(kind: str) -> Callable[[Sizes], tuple[Any, ProcessorMixin]]:
    def build(sizes: Sizes) -> tuple[Any, ProcessorMixin]:
        special = "<|im_start|> <image> <fake_token_around_image> <global-img>"
        tokenizer = _tokenizer(special, end="<end_of_utterance>")
        images = getattr(transformers, f"{kind}ImageProcessor")(
            size={"longest_edge": 2 * sizes.image}, max_image_size={"longest_edge": sizes.image}
        )
        processor = transformers.Idefics3Processor(
            images, tokenizer, image_seq_len=sizes.tokens, chat_template=_IDEFICS3_TEMPLATE
        )
        config = getattr(transformers, f"{kind}Config")(
            text_config=sizes.over(
                "text_config",
                {
                    "model_type": "llama",
                    "vocab_size": len(tokenizer),
                    "pad_token_id": tokenizer.pad_token_id,
                    **sizes.text,
                },
            ),
            vision_config=sizes.over("vision_config", sizes.siglip),
            scale_factor=sizes.merge,
            image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        )
        return config, processor

    return build


def _internvl(sizes: Sizes) -> tuple[Any, ProcessorMixin]:
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _tokenizer("<|im_start|>", end="<|im_end|>", **names)
    square = {"height": sizes.image, "width": sizes.image}
    processor = transformers.InternVLProcessor(
        transformers.GotOcr2ImageProcessor(size=square),
        tokenizer,
        transformers.InternVLVideoProcessor(size=square),
        image_seq_length=sizes.tokens,
        chat_template=_turns("<IMG_CONTEXT>\n"),
    )
    vision = {**sizes.siglip, "image_size": (sizes.image,) * 2, "patch_size": (sizes.patch,) * 2}
    config = transformers.InternVLConfig(
        text_config=sizes.over("text_config", {"model_type": "qwen2", "vocab_size": len(tokenizer), **sizes.text}),
        vision_config=sizes.over("vision_config", vision),
        image_seq_length=sizes.tokens,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
    )
    return config, processor


def _qwen(kind: str) -> Callable[[Sizes], tuple[Any, ProcessorMixin]]:
    def build(sizes: Sizes) -> tuple[Any, ProcessorMixin]:
        special = "<|im_start|> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|>"
        tokenizer = _tokenizer(special, end="<|im_end|>")
        family = "Qwen3VL" if kind == "Qwen3VL" else "Qwen2VL"
        images = transformers.Qwen2VLImageProcessor(
            patch_size=sizes.patch, size={"shortest_edge": 16**2, "longest_edge": sizes.image**2}
        )
        videos = getattr(transformers, f"{family}VideoProcessor")(patch_size=sizes.patch)
        processor = getattr(transformers, f"{kind}Processor")(images, tokenizer, videos, chat_template=_QWEN_TEMPLATE)
        head = sizes.width // sizes.heads // 2
        text = {
            **sizes.text,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [head - 2 * (head // 3), head // 3, head // 3],
            },
        }
        hidden = sizes.vision_width * sizes.mlp_ratio
        vision = {"depth": sizes.vision_layers, "num_heads": sizes.vision_heads, "patch_size": sizes.patch}
        vision |= {
            "Qwen2VL": {"embed_dim": sizes.vision_width, "mlp_ratio": sizes.mlp_ratio, "hidden_size": sizes.width},
            "Qwen2_5_VL": {
                "hidden_size": sizes.vision_width,
                "intermediate_size": hidden,
                "out_hidden_size": sizes.width,
                "window_size": 4 * sizes.patch,
                "fullatt_block_indexes": [sizes.vision_layers - 1],
            },
            "Qwen3VL": {
                "hidden_size": sizes.vision_width,
                "intermediate_size": hidden,
                "out_hidden_size": sizes.width,
                "deepstack_visual_indexes": [0],
                "num_position_embeddings": 64,
            },
        }[kind]
        if kind == "Qwen3VL":
            text["head_dim"] = sizes.width // sizes.heads
        names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
        names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
        numbers = {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
        sections = {"text_config": text, "vision_config": vision}
        sections = {name: sizes.over(name, values) for name, values in sections.items()}
        return getattr(transformers, f"{kind}Config")(**sections, **numbers), processor

    return build


_KINDS = {
    "smolvlm": _idefics3("SmolVLM"),
    "idefics3": _idefics3("Idefics3"),
    "internvl": _internvl,
    "qwen2_vl": _qwen("Qwen2VL"),
    "qwen2_5_vl": _qwen("Qwen2_5_VL"),
    "qwen3_vl": _qwen("Qwen3VL"),
}
# Heads of 8 (Qwen: rotations of three directions) and images of 4 x 4 merged patches.
SIZES = {
    name: Sizes(image=64, vision_width=32, vision_heads=2) if name.startswith("qwen") else Sizes() for name in _KINDS
}


def build_random_decoder(family: str, *, sizes: Sizes, seed: int = 0) -> tuple[Any, ProcessorMixin]:
    """Returns a model with the initial weights of its class, and its processor."""
    config, processor = _KINDS[family](sizes)
    torch.manual_seed(seed)
    return transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)](config), processor


def save_random_decoder(
    folder: Path, family: str, *, sizes: Sizes | None = None, seed: int = 0, scale: float = 3.0
) -> Path:
    """Writes a random checkpoint of a family. `scale` widens the weights, so that the image moves the scores."""
    model, processor = build_random_decoder(family, sizes=sizes or SIZES[family], seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in name:
                parameter.mul_(scale)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
