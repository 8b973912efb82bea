"""faceattr: attribute labels and models for millions of face images.

`import faceattr` loads neither torch nor ray: the functions in `__all__` are imported on first use.
"""

from typing import TYPE_CHECKING, Any

from faceattr.version import __version__ as __version__

if TYPE_CHECKING:
    from faceattr.inference.api import get_transform, load_model, predict_batch, predict_image, visualize_prediction

__all__ = ["get_transform", "load_model", "predict_batch", "predict_image", "visualize_prediction"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'faceattr' has no attribute {name!r}")
    from faceattr.inference import api  # noqa: PLC0415 - late, on first use

    return getattr(api, name)
