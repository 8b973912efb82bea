"""Floating-point operations of decoders, questions joined as `faceattr.vqa.decoder.scorer` does it.

As in `faceattr.vqa.flops`, what is linear in the number of features is left out; so is the small network between the
tower and the decoder.
"""

from faceattr.vqa.decoder.sizes import DecoderSizes
from faceattr.vqa.flops import count_layers

# Tokens of the chat template around an image, of a usual question with what the template adds, of its answers yes and
# no, and the places at which an answer's tokens are predicted.
_TEMPLATE_TOKENS, _QUESTION_TOKENS, _ANSWER_TOKENS, _READ_TOKENS = 20, 14, 2, 3


def count_decoder_image(sizes: DecoderSizes, image_px: int) -> float:
    """Returns the GFLOP for an image: its tower, and the decoder over its tokens and the template's."""
    return count_image_tower(sizes, image_px) + count_decoder_tokens(sizes, _num_shared(sizes, image_px))


def count_decoder_question(sizes: DecoderSizes, image_px: int) -> float:
    """Returns the GFLOP for a question of usual length with the answers yes and no."""
    asked = _QUESTION_TOKENS + _ANSWER_TOKENS
    return count_decoder_tokens(sizes, asked, before=_num_shared(sizes, image_px), read=_READ_TOKENS)


def count_image_tower(sizes: DecoderSizes, image_px: int) -> float:
    """Returns the GFLOP of the vision tower for one image, windows of attention counted as the whole image."""
    patches = (image_px // sizes.patch_px) ** 2
    projection = 2 * patches * sizes.frames * 3 * sizes.patch_px**2 * sizes.tower_width
    hidden = sizes.tower_hidden * sizes.tower_matrices / 2
    return projection / 1e9 + count_layers(patches, width=sizes.tower_width, hidden=hidden, layers=sizes.tower_layers)


def count_decoder_tokens(sizes: DecoderSizes, tokens: int, *, before: int = 0, read: int = 0) -> float:
    """Returns the GFLOP of the decoder for tokens behind others.

    Args:
        sizes: sizes of the model.
        tokens: number of tokens that are computed.
        before: number of tokens in the key-value cache.
        read: places at which logits are computed.
    """
    attention = 2 * sizes.width * (2 * sizes.query_width + 2 * sizes.key_width)
    seen = 4 * (before + tokens) * sizes.query_width
    layer = attention + seen + 2 * 3 * sizes.width * sizes.hidden
    return (tokens * sizes.layers * layer + read * 2 * sizes.width * sizes.vocabulary) / 1e9


def _num_shared(sizes: DecoderSizes, image_px: int) -> int:
    return _TEMPLATE_TOKENS + (image_px // sizes.patch_px // sizes.merged) ** 2
