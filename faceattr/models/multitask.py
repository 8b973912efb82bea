"""One model for many attributes: a backbone and one head per attribute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.images.face_view import FaceView
from faceattr.data.model_folders import locate_folder
from faceattr.errors import ConfigError
from faceattr.models.backbones.blocks import Backbone
from faceattr.models.backbones.names import restore_backbone
from faceattr.models.heads import HeadConfig, build_head, head_configs
from faceattr.models.lora.merging import merged_copy
from faceattr.models.saved import SavedModelConfig, check_attributes, check_heads, read_config, write_model
from faceattr.models.saved_config import MODEL_FILES, UnfinishedModel, find_weights, read_whole_model
from faceattr.models.weights import load_exactly, read_safetensors


class MultiAttributeModel(nn.Module):
    """Maps images to the outputs of every attribute.

    Attributes:
        attributes: attributes with kinds and class order; outputs follow this order.
        backbone: maps images to pooled features.
        heads: one per attribute, under the key `<attribute>_head`; `head(name)` returns it.
        head_configs: attribute name -> shape of its head.
        thresholds: binary or derived attribute -> threshold of its score; saved with the model.
        calibration: attribute -> JSON settings; saved with the model.
        faces: which part of an image it is trained on, None for all of it; saved with the model.
        unfinished: what a training says of its best model so far, if this one was loaded before its end; else None.
    """

    unfinished: UnfinishedModel | None

    def __init__(
        self,
        backbone: Backbone,
        attributes: AttributeSet,
        *,
        heads: str | Mapping[str, HeadConfig] = "linear",
        thresholds: Mapping[str, float] | None = None,
        calibration: Mapping[str, Mapping[str, Any]] | None = None,
        faces: FaceView | None = None,
    ) -> None:
        """Builds heads with random weights on a backbone.

        Args:
            backbone: backbone that becomes part of the model.
            attributes: attributes to predict.
            heads: a name of `HEAD_PRESETS`, or attribute name -> head shape.
            thresholds: see the class docstring.
            calibration: see the class docstring.
            faces: see the class docstring.

        Raises:
            ConfigError: a head is missing or invalid.
        """
        super().__init__()
        self.attributes = attributes
        self.head_configs = head_configs(heads, attributes) if isinstance(heads, str) else dict(heads)
        check_heads(attributes, self.head_configs)
        self.backbone = backbone
        # Attribute names as keys would clash with nn.Module's own: one may be named `clear`, `type` or `float`.
        self.heads = nn.ModuleDict(
            {
                head_key(attribute.name): build_head(
                    attribute, self.head_configs[attribute.name], backbone.num_features
                )
                for attribute in attributes.attributes
            }
        )
        self.thresholds = dict(thresholds or {})
        self.calibration = {name: dict(values) for name, values in (calibration or {}).items()}
        self.faces = faces
        self.unfinished = None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Returns the outputs per attribute, in the order of `attributes`.

        Args:
            images: float32 [n, 3, S, S], normalised as `backbone.preprocessing` specifies.

        Returns:
            Attribute name -> float32 [n, outputs]; `faceattr.models.heads` defines the outputs.
        """
        if not images.is_floating_point():
            raise ValueError(
                f"expected normalised float images [n, 3, S, S], found {images.dtype}; "
                "faceattr.models.transforms.Normalise makes them from uint8"
            )
        return self.apply_heads(self.backbone(images))

    def apply_heads(self, features: Tensor) -> dict[str, Tensor]:
        """Maps pooled features float32 [n, num_features] to attribute name -> float32 [n, outputs]."""
        return {name: self.head(name)(features) for name in self.attributes.names}

    def head(self, name: str) -> nn.Module:
        """Returns the head of an attribute; raises KeyError if there is none."""
        return self.heads[head_key(name)]

    @property
    def config(self) -> SavedModelConfig:
        """Everything but the weights, as `save_pretrained` stores it.

        Raises:
            ConfigError: a threshold or calibration belongs to no attribute of the model.
        """
        return SavedModelConfig(
            backbone=self.backbone.config,
            preprocessing=self.backbone.preprocessing,
            attributes=self.attributes,
            heads=self.head_configs,
            thresholds=self.thresholds,
            calibration=self.calibration,
            faces=self.faces,
            unfinished=self.unfinished,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `model.safetensors` and `config.json` into a new or empty local folder; LoRA is merged in the file.

        Raises:
            ConfigError: the folder already contains a model, or a threshold is out of range.
        """
        if "://" in str(folder):
            raise ConfigError(f"{folder}: models are saved into a local folder; upload it from there")
        write_model(Path(folder).expanduser(), self.config, merged_copy(self).state_dict())

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        expected: AttributeSet | None = None,
        storage: StorageConfig | None = None,
    ) -> "MultiAttributeModel":
        """Loads a saved model onto the CPU, in evaluation mode and float32.

        Args:
            source: local folder, Hugging Face hub id, or URI of a folder.
            revision: branch, tag or commit, for hub ids.
            expected: attributes that the model must have, with the same kinds and class order; it may have more.
            storage: how object storage is reached, where the source is a URI.

        Raises:
            ConfigError, ModelError: the source cannot be found, was not saved by faceattr, or its attributes differ.
        """

        def load(folder: Path) -> MultiAttributeModel:
            config = read_config(folder)
            if expected is not None:
                check_attributes(config.attributes, expected, str(folder))
            weights = find_weights(folder)
            model = cls(
                restore_backbone(config.backbone, config.preprocessing),
                config.attributes,
                heads=config.heads,
                thresholds=config.thresholds,
                calibration=config.calibration,
                faces=config.faces,
            )
            load_exactly(model, read_safetensors(weights), str(weights))
            model.unfinished = config.unfinished
            return model.eval()

        return read_whole_model(
            lambda: locate_folder(source, patterns=MODEL_FILES, revision=revision, storage=storage), load
        )


def head_key(name: str) -> str:
    """Returns the key of an attribute's head in `MultiAttributeModel.heads`."""
    return f"{name}_head"
