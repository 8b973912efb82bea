"""Inputs that trainings on the same data share: the packed runs, the attributes, and the survey of the labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from faceattr.attributes import AttributeSet
from faceattr.config import StorageConfig
from faceattr.config.train import TrainConfig
from faceattr.data.packed.reader import PackedData
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.assembly import build_model
from faceattr.training.label_survey import SplitSurvey


@dataclass(frozen=True, kw_only=True)
class TrainingInputs:
    """The data of a training, or of all trials of a search; picklable, and equal on all workers.

    Attributes:
        data: packed runs.
        attributes: attributes to train.
        surveys: split -> survey of its labels.
        storage: how object storage is reached.
    """

    data: PackedData
    attributes: AttributeSet
    surveys: Mapping[str, SplitSurvey]
    storage: StorageConfig

    @property
    def counts(self) -> dict[str, Tensor]:
        """Attribute name -> number of training labels by class, float64 [classes]."""
        counts = self.surveys["train"].counts
        return {name: torch.tensor(each, dtype=torch.float64) for name, each in counts.items()}

    @property
    def data_fingerprint(self) -> str:
        """Fingerprint of the data including the row order, which depends on the order of the runs."""
        return f"{self.data.fingerprint} {' '.join(self.data.uris)}"

    def build_model(self, config: TrainConfig, *, pretrained: bool | None = None) -> MultiAttributeModel:
        """Builds the model before its first step; see `faceattr.training.assembly.build_model`.

        Raises:
            ConfigError, ModelError: the backbone, a head or the checkpoint is not available or does not fit the data.
        """
        model = build_model(config, self.attributes, counts=self.counts, pretrained=pretrained, storage=self.storage)
        model.faces = self.data.faces
        return model
