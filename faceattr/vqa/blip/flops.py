"""Floating-point operations of BLIP VQA, questions packed as `faceattr.vqa.blip.scorer` does it."""

from faceattr.vqa.blip.network.architecture import BlipArchitecture
from faceattr.vqa.flops import count_layers, count_tower

# Tokens of a usual question, and of [DEC] with the answers yes and no that follow it. The answers' [SEP] are only
# predicted.
_QUESTION_TOKENS, _ANSWER_TOKENS = 10, 3


def count_image(sizes: BlipArchitecture) -> float:
    """Returns the GFLOP for an image: its tower, and its keys and values for the question encoder."""
    vision, text = sizes.vision, sizes.text
    tokens = 1 + (sizes.image_px // sizes.patch_px) ** 2
    tower = count_tower(
        image_px=sizes.image_px,
        patch_px=sizes.patch_px,
        width=vision.width,
        hidden=vision.hidden,
        layers=vision.layers,
    )
    return tower + text.layers * 2 * tokens * 2 * vision.width * text.width / 1e9


def count_question(sizes: BlipArchitecture) -> float:
    """Returns the GFLOP for a question of usual length with the answers yes and no."""
    text = sizes.text
    image_tokens = 1 + (sizes.image_px // sizes.patch_px) ** 2
    layers = count_layers(_QUESTION_TOKENS, width=text.width, hidden=text.hidden, layers=text.layers)
    layers += count_layers(_ANSWER_TOKENS, width=text.width, hidden=text.hidden, layers=text.layers)
    queries = (_QUESTION_TOKENS + _ANSWER_TOKENS) * 2 * 2 * text.width**2
    encoder = _QUESTION_TOKENS * 4 * image_tokens * text.width
    decoder = _QUESTION_TOKENS * 2 * 2 * sizes.vision.width * text.width  # keys and values of the question
    vocabulary = _ANSWER_TOKENS * 2 * text.width * (text.width + sizes.vocabulary)
    return layers + (text.layers * (queries + encoder + decoder) + vocabulary) / 1e9
