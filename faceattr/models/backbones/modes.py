"""How a backbone trains: what becomes of its batch norms, and whether activations are computed again to save memory."""

from timm.layers import convert_sync_batchnorm

from faceattr.config.train import BatchNormMode
from faceattr.errors import ConfigError
from faceattr.models.backbones.blocks import Backbone


def set_batch_norm(backbone: Backbone, mode: BatchNormMode) -> None:
    """Prepares the batch norms of a backbone for training, before it is frozen.

    Args:
        backbone: changed in place; its weights and their names stay the same.
        mode: `train` changes nothing. `frozen`: statistics, weights and biases stay as they are. `sync`: in training,
            all ranks share the statistics of a batch; torch does so between GPUs only.

    Raises:
        ConfigError: the backbone has no batch norm.
    """
    if mode == "train":
        return
    if not backbone.batch_norms():
        raise ConfigError(f"--model.batch-norm {mode}: {backbone.config.name} has no batch norm; leave the flag out")
    if mode == "sync":
        backbone.module = convert_sync_batchnorm(backbone.module)
    else:
        backbone.frozen_norms = True


def set_recompute(backbone: Backbone) -> None:
    """Makes a backbone compute the activations inside of its blocks again for the gradients.

    Raises:
        ConfigError: the backbone runs as a whole, and timm cannot do it, or not without updating batch norms twice.
    """
    if backbone.can_split:
        backbone.recomputes = True
        return
    can = hasattr(backbone.module, "set_grad_checkpointing") and not backbone.batch_norms()
    if not can:
        raise ConfigError(
            f"--workers.recompute: {backbone.config.name} ({type(backbone.module).__name__}) cannot; "
            "networks that run in blocks (see --freeze.depth) and timm's models without batch norm can"
        )
    backbone.module.set_grad_checkpointing(True)
