"""Making a predictor in the process that will use it."""

import torch

from faceattr.config import Precision, StorageConfig
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
    precision: Precision,
    batch_size: int,
    threads: int,
    on_gpu: bool,
    storage: StorageConfig,
) -> Predictor:
    """Loads a trained model.

    Args:
        model: hub id, local folder or object-storage folder.
        revision: commit of a hub model.
        weights_id: what the driver found; another one here is refused.
        precision: type that the network computes in.
        batch_size: images in a forward pass.
        threads: CPU threads to compute with.
        on_gpu: whether Ray gave this process a GPU, or a share of one.
        storage: how object storage is reached.

    Raises:
        ConfigError, ModelError: the model cannot be loaded, or is another one.
    """
    torch.set_num_threads(threads)
    facts = inspect_saved_model(model, revision=revision, storage=storage)
    if facts.weights_id != weights_id:
        raise ModelError(
            f"{model}: this node has the model {facts.weights_id[:12]}, the driver {weights_id[:12]}. Use object "
            "storage or a pinned --revision, so that every node loads the same files."
        )
    loaded = MultiAttributeModel.from_pretrained(facts.folder)
    return Predictor(loaded, device=given_device(on_gpu), batch_size=batch_size, precision=precision)
