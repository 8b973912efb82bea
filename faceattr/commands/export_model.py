"""`faceattr export model`: a trained model as a file for other runtimes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from faceattr.config import StorageConfig
from faceattr.data.stores.local_files import choose_output, make_parent
from faceattr.errors import ConfigError
from faceattr.inference.export import DEFAULT_OPSET, export_onnx
from faceattr.logs import say
from faceattr.models.multitask import MultiAttributeModel


@dataclass(frozen=True, kw_only=True)
class ExportModel:
    """Writes a trained model as ONNX, with a JSON file that describes its use, and checks it with onnxruntime."""

    model: tyro.conf.Positional[str]
    """A trained model: a local folder, a Hugging Face hub id, or s3://bucket/folder."""
    format: Literal["onnx"] = "onnx"
    """Format of the file."""
    output: Path | None = None
    """File to write. Default: model.onnx in the current folder, if there is none yet."""
    opset: int = DEFAULT_OPSET
    """Version of the ONNX operator set."""
    input: Literal["uint8", "float"] = "uint8"
    """Input of the exported model: `uint8` pixels [n, S, S, 3], or normalised `float` [n, 3, S, S]."""
    revision: str | None = None
    """Commit of a hub model."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        if self.opset < 1:
            raise ConfigError(f"--opset: expected 1 or more, found {self.opset}")

    def __call__(self) -> int:
        """Exports the model and compares it with PyTorch."""
        options = self.storage
        model = MultiAttributeModel.from_pretrained(self.model, revision=self.revision, storage=options)
        path = choose_output(self.output, "model.onnx")
        make_parent(path, "--output")
        differences = export_onnx(model, path, input_type=self.input, opset=self.opset)
        size = model.backbone.preprocessing.size_px
        say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB) and {path.with_suffix('.json')}")
        say(f"takes `images`, {self.input} of {size} px; any batch size; opset {self.opset}")
        worst = max(differences, key=lambda name: differences[name])
        say(f"onnxruntime agrees with PyTorch: largest difference {differences[worst]:.1e}, of {worst}")
        return 0
