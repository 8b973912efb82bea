"""Floating-point operations of the vision towers of CLIP and SigLIP; texts are embedded once for a whole run."""

from faceattr.vqa.contrastive.sizes import VisionSizes
from faceattr.vqa.flops import count_tower


def count_contrastive_image(sizes: VisionSizes) -> float:
    """Returns the GFLOP for an image, projection or pooling included."""
    tower = count_tower(
        image_px=sizes.image_px,
        patch_px=sizes.patch_px,
        width=sizes.width,
        hidden=sizes.hidden,
        layers=sizes.layers,
        extra_tokens=0 if sizes.projection is None else 1,
    )
    if sizes.projection is not None:
        return tower + 2 * sizes.width * sizes.projection / 1e9
    # SigLIP's pooling: one query attends to all tokens, then a feed-forward layer.
    tokens = (sizes.image_px // sizes.patch_px) ** 2
    attention = 2 * sizes.width**2 * (2 * tokens + 2) + 4 * tokens * sizes.width
    return tower + (attention + 4 * sizes.width * sizes.hidden) / 1e9
