"""Builds a predictor in the process that uses it."""

from typing import Literal

import torch

from faceattr.config import PrecisionChoice, StorageConfig
from faceattr.data.images.face_view import FaceView
from faceattr.devices import given_device
from faceattr.errors import ModelError
from faceattr.inference.predictor import Predictor
from faceattr.models.inspect import inspect_saved_model
from faceattr.models.multitask import MultiAttributeModel


def build_predictor(
    *,
    model: str,
    revision: str | None,
    weights_id: str,
    precision: PrecisionChoice,
    batch_size: int,
    threads: int,
    on_gpu: bool,
    storage: StorageConfig,
    flip: bool = False,
    faces: FaceView | Literal["model"] | None = "model",
) -> Predictor:
    """Loads a trained model.

    Args:
        model: hub id, local folder, or URI of a folder.
        revision: commit, for hub ids.
        weights_id: hash of the model that the driver found; a model with another hash is refused.
        precision: dtype of the network's computation.
        batch_size: number of images in a forward pass.
        threads: number of CPU threads for the computation.
        on_gpu: whether Ray assigned a GPU, or a share of one, to this process.
        storage: how object storage is reached.
        flip: whether outputs are the mean for an image and its mirror image.
        faces: which part of a whole image the model is shown; see `Predictor`.

    Raises:
        ConfigError, ModelError: the model cannot be loaded, or differs from the driver's.
    """
    torch.set_num_threads(threads)
    facts = inspect_saved_model(model, revision=revision, storage=storage)
    if facts.weights_id != weights_id:
        raise ModelError(
            f"{model}: this node has the model {facts.weights_id[:12]}, the driver {weights_id[:12]}. Use object "
            "storage or a pinned --revision, so that every node loads the same files."
        )
    loaded = MultiAttributeModel.from_pretrained(facts.folder)
    if loaded.unfinished != facts.unfinished:
        raise ModelError(f"{model}: a training has replaced it meanwhile; run the command again when that has ended")
    return Predictor(
        loaded,
        device=given_device(on_gpu),
        batch_size=batch_size,
        precision=precision,
        flip=flip,
        faces=faces,
    )
