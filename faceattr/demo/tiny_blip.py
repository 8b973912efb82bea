"""The demo's tiny BLIP: its size, tokenizer, image processor, language loss and files.

The language loss is -log p(answer, [SEP] | [DEC], question, image) per token, which a scorer sums. Questions are never
padded, because transformers' BLIP ignores the mask of its cross-attention.
"""

import pathlib

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering, BlipImageProcessor

from faceattr.demo.wordings import build_vocabulary

IMAGE_PX = 96
PATCH_PX = 8
_MAX_TOKENS = 48
_ANSWER_START = "[DEC]"


def build_tokenizer() -> BertTokenizer:
    """Builds a word-level tokenizer: `[CLS] words [SEP]`, lower case, unknown words become `[UNK]`."""
    return BertTokenizer(vocab=build_vocabulary(), bos_token=_ANSWER_START, model_max_length=_MAX_TOKENS)


def build_image_processor() -> BlipImageProcessor:
    """Builds BLIP's usual processor in this model's size: square bicubic resize, CLIP's mean and standard deviation."""
    return BlipImageProcessor(size={"height": IMAGE_PX, "width": IMAGE_PX})


def build_model(tokenizer: BertTokenizer, *, seed: int = 0) -> BlipForQuestionAnswering:
    """Builds a randomly initialised model of about one million parameters."""
    width, num_heads = 128, 4
    shared = {
        "hidden_size": width,
        "num_attention_heads": num_heads,
        "initializer_range": 0.02,
        "projection_dim": width,
    }
    config = BlipConfig(
        vision_config={
            **shared,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "image_size": IMAGE_PX,
            "patch_size": PATCH_PX,
        },
        text_config={
            **shared,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": _MAX_TOKENS,
            "bos_token_id": tokenizer.convert_tokens_to_ids(_ANSWER_START),
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        projection_dim=width,
        image_text_hidden_size=width,
    )
    torch.manual_seed(seed)
    return BlipForQuestionAnswering(config)


def compute_answer_loss(model: BlipForQuestionAnswering, states: Tensor, question: Tensor, answers: Tensor) -> Tensor:
    """Returns the mean of -log p over the answer's tokens, including the closing [SEP].

    Args:
        model: model whose text towers are used.
        states: image states [n, tokens, width].
        question: token ids int64 [1, length], unpadded, the same for all images.
        answers: token ids int64 [n, 3]: [DEC], the answer, [SEP].
    """
    ids = question.expand(len(states), -1)
    asked = model.text_encoder(input_ids=ids, encoder_hidden_states=states).last_hidden_state
    logits = model.text_decoder(input_ids=answers[:, :-1], encoder_hidden_states=asked, use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1), answers[:, 1:].flatten())


def save_tiny_blip(model: BlipForQuestionAnswering, tokenizer: BertTokenizer, output_dir: pathlib.Path) -> None:
    """Writes model, tokenizer and image processor in the layout that `from_pretrained` reads.

    The weights are stored as fp16, half the size; the config says float32, so that they are loaded as float32.
    """
    halved = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.save_pretrained(output_dir, state_dict=halved)
    tokenizer.save_pretrained(output_dir)
    build_image_processor().save_pretrained(output_dir)
