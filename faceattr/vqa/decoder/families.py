"""The families of image-text-to-text models: one row per `model_type` of config.json.

Each image becomes one square of a fixed size, so that all images of a run have the same tokens before the question. A
processor that would cut an image into tiles is told not to; one that would keep its aspect ratio gets a square.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DecoderFamily:
    """How a family's images are made, and its processor's class.

    Attributes:
        processor: class of transformers that joins the images and the text of a chat.
        one_tile: settings of the image processor by which an image becomes one square.
        defaults: what the image processor's class has where a checkpoint's settings do not say.
    """

    processor: str
    one_tile: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any]


# `resample` numbers Pillow's filters: 1 is Lanczos, 3 is bicubic.
_IDEFICS3 = DecoderFamily(
    # Also for `smolvlm`: its own class differs in videos alone, for which it needs the package num2words.
    processor="Idefics3Processor",
    one_tile={"do_image_splitting": False},
    defaults={"size": {"longest_edge": 4 * 364}, "max_image_size": {"longest_edge": 364}, "resample": 1},
)


def _qwen(processor: str, *, patch_px: int = 14, most_pixels: int = 28 * 28 * 1280) -> DecoderFamily:
    return DecoderFamily(
        processor=processor,
        defaults={
            "size": {"shortest_edge": 56 * 56, "longest_edge": most_pixels},
            "patch_size": patch_px,
            "merge_size": 2,
            "resample": 3,
        },
    )


DECODER_FAMILIES = {
    "smolvlm": _IDEFICS3,
    "idefics3": _IDEFICS3,
    "internvl": DecoderFamily(
        processor="InternVLProcessor",
        one_tile={"crop_to_patches": False},
        defaults={"size": {"height": 384, "width": 384}, "resample": 3},
    ),
    "qwen2_vl": _qwen("Qwen2VLProcessor"),
    "qwen2_5_vl": _qwen("Qwen2_5_VLProcessor"),
    "qwen3_vl": _qwen("Qwen3VLProcessor"),
}
"""`model_type` of config.json -> its family."""
