"""Floating-point operations of transformers, counted from their sizes; a multiplication with its addition is two.

What is linear in the number of features (norms, activations, biases) is left out, as torch's FlopCounterMode does.
"""


def count_tower(*, image_px: int, patch_px: int, width: int, hidden: int, layers: int, extra_tokens: int = 1) -> float:
    """Returns the GFLOP of a vision transformer for one image.

    Args:
        image_px: side of the square image.
        patch_px: side of a patch.
        width: width of its states.
        hidden: width inside the feed-forward layers.
        layers: number of layers.
        extra_tokens: tokens that are no patches, such as the class token.
    """
    patches = (image_px // patch_px) ** 2
    projection = 2 * patches * 3 * patch_px**2 * width
    return projection / 1e9 + count_layers(patches + extra_tokens, width=width, hidden=hidden, layers=layers)


def count_layers(tokens: float, *, width: int, hidden: float, layers: int) -> float:
    """Returns the GFLOP of transformer layers over a sequence of so many tokens."""
    products = 2 * tokens * (4 * width**2 + 2 * width * hidden)
    attention = 4 * tokens**2 * width
    return layers * (products + attention) / 1e9
