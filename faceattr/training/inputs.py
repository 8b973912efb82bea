"""What every training of some data starts from: the packed runs, the attributes, and what is known of the labels."""

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
    """The data of a training or of all trials of a search; picklable, and the same for all workers.

    Attributes:
        data: packed runs.
        attributes: to learn.
        surveys: split -> what is known of its labels.
        storage: how stores are reached.
    """

    data: PackedData
    attributes: AttributeSet
    surveys: Mapping[str, SplitSurvey]
    storage: StorageConfig

    @property
    def counts(self) -> dict[str, Tensor]:
        """Attribute name -> labels by class in the training split, float64 [classes]."""
        counts = self.surveys["train"].counts
        return {name: torch.tensor(each, dtype=torch.float64) for name, each in counts.items()}

    @property
    def data_fingerprint(self) -> str:
        """Of the data in the order of their rows, which follows from that of the runs."""
        return f"{self.data.fingerprint} {' '.join(self.data.uris)}"

    def build_model(self, config: TrainConfig, *, pretrained: bool | None = None) -> MultiAttributeModel:
        """The model before its first step; see `faceattr.training.assembly.build_model`.

        Raises:
            ConfigError, ModelError: the backbone, a head or the checkpoint cannot be had or do not fit the data.
        """
        return build_model(config, self.attributes, counts=self.counts, pretrained=pretrained, storage=self.storage)
