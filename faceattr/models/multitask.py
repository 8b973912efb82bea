"""One model for many attributes: a backbone and one head per attribute."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.data.model_folders import locate_folder
from faceattr.errors import ConfigError
from faceattr.models.backbones.blocks import Backbone
from faceattr.models.backbones.names import restore_backbone
from faceattr.models.heads import HeadConfig, build_head, head_configs
from faceattr.models.lora import merged_copy
from faceattr.models.saved import SavedModelConfig, check_attributes, check_heads, read_config, write_model
from faceattr.models.saved_config import MODEL_FILES, find_weights
from faceattr.models.weights import load_exactly, read_safetensors


class MultiAttributeModel(nn.Module):
    """Images to the outputs of every attribute.

    Attributes:
        attributes: with kinds and class order; the outputs follow them.
        backbone: images to pooled features.
        heads: one a attribute, under the key `<attribute>_head`; `head(name)` finds it.
        head_configs: attribute name -> shape of its head.
        thresholds: binary or derived attribute -> cut on its score; saved with the model.
        calibration: attribute -> JSON settings; saved with the model.
    """

    def __init__(
        self,
        backbone: Backbone,
        attributes: AttributeSet,
        *,
        heads: str | Mapping[str, HeadConfig] = "linear",
        thresholds: Mapping[str, float] | None = None,
        calibration: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Builds heads with random weights on a backbone.

        Args:
            backbone: becomes part of the model.
            attributes: what is predicted.
            heads: a name of `HEAD_PRESETS`, or the shape of each attribute's head.
            thresholds: see the class.
            calibration: see the class.

        Raises:
            ConfigError: a head is missing or impossible.
        """
        super().__init__()
        self.attributes = attributes
        self.head_configs = head_configs(heads, attributes) if isinstance(heads, str) else dict(heads)
        check_heads(attributes, self.head_configs)
        self.backbone = backbone
        # Bare names would clash with nn.Module's own: `clear`, `type`, `float` are attributes that a user may have.
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

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs by attribute, in the order of `attributes`.

        Args:
            images: float32 [n, 3, S, S], normalised as `backbone.preprocessing` says.

        Returns:
            Attribute name -> float32 [n, outputs]; see `faceattr.models.heads` for what they are.
        """
        if not images.is_floating_point():
            raise ValueError(
                f"expected normalised float images [n, 3, S, S], found {images.dtype}; "
                "faceattr.models.transforms.Normalise makes them from uint8"
            )
        return self.apply_heads(self.backbone(images))

    def apply_heads(self, features: Tensor) -> dict[str, Tensor]:
        """Pooled features float32 [n, num_features] -> attribute name -> float32 [n, outputs]."""
        return {name: self.head(name)(features) for name in self.attributes.names}

    def head(self, name: str) -> nn.Module:
        """The head of an attribute; KeyError if there is none."""
        return self.heads[head_key(name)]

    @property
    def config(self) -> SavedModelConfig:
        """All of the model but its weights, as it would be saved.

        Raises:
            ConfigError: a threshold or a calibration does not belong to an attribute.
        """
        return SavedModelConfig(
            backbone=self.backbone.config,
            preprocessing=self.backbone.preprocessing,
            attributes=self.attributes,
            heads=self.head_configs,
            thresholds=self.thresholds,
            calibration=self.calibration,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `model.safetensors` and `config.json` into a new or empty local folder; LoRA is merged in the file.

        Raises:
            ConfigError: the folder holds a model already, or a threshold is out of range.
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
        """Loads what `save_pretrained` wrote: evaluation mode, float32, on the CPU.

        Args:
            source: local folder, Hugging Face hub id, or URI of a folder.
            revision: for hub ids: branch, tag or commit.
            expected: attributes that the model must have, with these kinds and class orders; it may have more.
            storage: how object storage is reached, where the source is a URI.

        Raises:
            ConfigError, ModelError: it cannot be found, is not a model of ours, or its attributes differ.
        """
        folder = locate_folder(source, patterns=MODEL_FILES, revision=revision, storage=storage)
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
        )
        load_exactly(model, read_safetensors(weights), str(weights))
        return model.eval()


def head_key(name: str) -> str:
    """Key of an attribute's head in `MultiAttributeModel.heads`."""
    return f"{name}_head"
