"""The network whose features the heads read."""

from dataclasses import replace

from faceattr.attributes import AttributeSet
from faceattr.config import ImageLimitsConfig, PrecisionChoice, StorageConfig
from faceattr.data.packed.reader import PackedData
from faceattr.devices import resolve_device
from faceattr.inference.packed_features import PooledFeatures, cache_features
from faceattr.models.backbones.names import build_backbone
from faceattr.models.multitask import MultiAttributeModel
from faceattr.training.features.cache import Features


def compute_features(
    data: PackedData,
    output_uri: str,
    *,
    model: str | None,
    backbone: str,
    device: str,
    precision: PrecisionChoice,
    batch_size: int,
    limits: ImageLimitsConfig,
) -> tuple[dict[str, Features], str]:
    """Returns split -> features of its rows, and the hash of the network's weights.

    Args:
        data: the packed run.
        output_uri: folder whose `mirrored/features/` keeps them.
        model: folder, hub id or URI of a trained model; None for the backbone.
        backbone: name of a backbone; it sees the whole image, as in a training (`--model.crop-fraction auto`).
        device: where it runs; `auto` is a GPU if there is one.
        precision: data type of its computation.
        batch_size: images per forward pass.
        limits: limits on encoded images.

    Raises:
        ConfigError, ModelError: the network cannot be found or loaded.
    """
    network = _load_network(model, backbone, data.attributes, data.storage)
    compute = PooledFeatures(
        network, device=resolve_device(device), precision=precision, batch_size=batch_size, limits=limits
    )
    return cache_features(data, compute, output_uri), compute.weights_id


def _load_network(
    model: str | None, name: str, attributes: AttributeSet, storage: StorageConfig
) -> MultiAttributeModel:
    if model is not None:
        return MultiAttributeModel.from_pretrained(model, storage=storage)
    backbone = build_backbone(name, pretrained=True, storage=storage)
    backbone.preprocessing = replace(backbone.preprocessing, crop_fraction=1.0)
    return MultiAttributeModel(backbone, attributes)  # its heads are not used
