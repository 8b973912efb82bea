"""The configs of all entry points: frozen dataclasses, two levels deep, checked on construction.

Flags are generated from them (`faceattr.cli`), and a field's docstring is its help text. Standard library only.
"""

from faceattr.config.evaluate import BootstrapConfig, EvalConfig, ThresholdConfig
from faceattr.config.label import LabelConfig
from faceattr.config.pack import PackConfig, SelectConfig, SourceConfig, SplitsConfig
from faceattr.config.predict import PredictConfig
from faceattr.config.shared import (
    MAX_PIXELS,
    DecodeConfig,
    ImageLimitsConfig,
    Precision,
    PrecisionChoice,
    RayConfig,
    StorageConfig,
    WorkersConfig,
)

__all__ = [
    "MAX_PIXELS",
    "BootstrapConfig",
    "DecodeConfig",
    "EvalConfig",
    "ImageLimitsConfig",
    "LabelConfig",
    "PackConfig",
    "Precision",
    "PrecisionChoice",
    "PredictConfig",
    "RayConfig",
    "SelectConfig",
    "SourceConfig",
    "SplitsConfig",
    "StorageConfig",
    "ThresholdConfig",
    "WorkersConfig",
]
