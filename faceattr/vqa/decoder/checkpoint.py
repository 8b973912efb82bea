"""Loads image-text-to-text checkpoints into transformers' own classes.

Weights are read from safetensors only, classes are fixed by the family, and the tokenizer, the image processor and the
chat template are data; transformers renders the template in its sandbox.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from faceattr.errors import ModelError
from faceattr.vqa.decoder.families import DecoderFamily
from faceattr.vqa.decoder.inspect import check_decoder, decoder_weights
from faceattr.vqa.decoder.preprocess import resize_square
from faceattr.vqa.decoder.square import SquareImage, read_square


@dataclass(frozen=True)
class DecoderCheckpoint:
    """An image-text-to-text model with its processor.

    Attributes:
        folder: where it was read from.
        model: evaluation mode, float32, on the CPU.
        processor: its tokenizer, image processor and chat template.
        family: how its images are made.
        square: the same in numbers.
    """

    folder: Path
    model: Any
    processor: Any
    family: DecoderFamily
    square: SquareImage

    def encode(self, texts: Sequence[str], images: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Returns the model's inputs for texts of equal length, each about one image, as the processor makes them.

        Args:
            texts: n texts with the chat template's sign for an image.
            images: n images, uint8 [S, S, 3].
        """
        settings = {"do_resize": False, "input_data_format": "channels_last", **self.family.one_tile}
        first = self.processor.tokenizer.bos_token
        encoded = self.processor(
            text=list(texts),
            images=[[image] for image in images],
            images_kwargs=settings,
            # A template that begins with the first token of a text wants no second one.
            add_special_tokens=first is None or not texts[0].startswith(first),
            return_tensors="pt",
        )
        return dict(encoded)

    def encode_images(self, images: Tensor, prefix: Tensor) -> dict[str, Tensor]:
        """Returns the model's inputs but `input_ids` for images behind the same tokens, on the images' device.

        Args:
            images: uint8 [n, S, S, 3].
            prefix: int64 [P], tokens, one image's among them.
        """
        image_processor = self.processor.image_processor
        encoded = image_processor(
            images=[[image] for image in images.permute(0, 3, 1, 2)],
            do_resize=False,
            return_tensors="pt",
            **self.family.one_tile,
        )
        inputs = {name: encoded[name] for name in image_processor.model_input_names if name in encoded}
        if "image_grid_thw" in inputs:  # Qwen-VL: which tokens have positions in two dimensions
            is_image = prefix == self.model.config.image_token_id
            inputs["mm_token_type_ids"] = is_image.int().expand(len(images), -1)
        return {name: value.to(images.device) for name, value in inputs.items()}


def load_decoder(folder: Path) -> DecoderCheckpoint:
    """Loads an image-text-to-text checkpoint.

    Raises:
        ModelError: it is of no known family, incomplete, or does something that is not reproduced here.
    """
    config, family = check_decoder(folder)
    square = read_square(folder, family)
    try:
        processor = getattr(transformers, family.processor).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, TypeError, ImportError, AttributeError) as error:
        raise ModelError(f"{folder}: transformers cannot load tokenizer and image processor: {error}") from error
    if processor.chat_template is None:
        raise ModelError(
            f"{folder}: expected a chat template (chat_template.jinja or chat_template.json), found none; give the "
            "model's instruction-tuned checkpoint"
        )
    _check_square(processor, family, square, folder)
    return DecoderCheckpoint(
        folder=folder, model=_load_model(folder, config), processor=processor, family=family, square=square
    )


def place_decoder(model: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Returns the model itself if its parameters have this device and type, else a copy; the given one never moves.

    Buffers stay float32, as transformers keeps them: in half precision the frequencies of rotary positions would be off
    by more than neighbouring positions differ.
    """
    parameter = next(model.parameters())
    if parameter.dtype == dtype and parameter.device == device:
        return model
    placed = copy.deepcopy(model).to(device)
    for parameter in placed.parameters():
        parameter.data = parameter.data.to(dtype)
    return placed


def _load_model(folder: Path, config: dict[str, Any]) -> Any:
    # Config and tensors are read here: given a folder name, transformers would follow whatever its files name.
    try:
        tensors = {name: tensor for path in decoder_weights(folder) for name, tensor in load_file(path).items()}
        built = CONFIG_MAPPING[config["model_type"]].from_dict(config)
        model, info = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(built)].from_pretrained(
            None, config=built, state_dict=tensors, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, TypeError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise ModelError(f"{folder}: the weights cannot be loaded: {error}") from error
    # Transformers fills missing tensors with random numbers and only warns.
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} tensors of the model are not in the weights, {missing[0]!r} for one; "
            "the checkpoint is incomplete or has another architecture"
        )
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
    if layers != {"full_attention"}:
        raise ModelError(
            f"{folder}: expected a decoder whose layers all attend to the whole text, found {sorted(layers)}; such "
            "models are not supported"
        )
    return model.eval()


def _check_square(processor: Any, family: DecoderFamily, square: SquareImage, folder: Path) -> None:
    """Compares the processor's effect with ours on one noisy, oblong image: settings may mean more than we read.

    A family that takes any resolution has nothing to compare but that the square passes unchanged.
    """
    image = np.random.default_rng(0).integers(0, 256, size=(37, 53, 3), dtype=np.uint8)
    ours = resize_square(image, square)
    settings = {"return_tensors": "pt", "input_data_format": "channels_last", **family.one_tile}
    settings |= square.processor_size
    try:
        theirs = processor.image_processor(images=[ours if "patch_size" in family.defaults else image], **settings)
        expected = processor.image_processor(images=[ours], do_resize=False, **settings)
        is_ours = torch.equal(theirs["pixel_values"], expected["pixel_values"])
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise ModelError(f"{folder}: the image processor is not that of this family: {error}") from error
    if not is_ours:
        raise ModelError(
            f"{folder}: the image processor does not make the square of {square.size_px} px ({square.mode}) that its "
            "settings were read as; report this with its preprocessor_config.json"
        )
