"""Predictor: images to calibrated scores and labels, in batches, on a CPU or a GPU."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from faceattr.data.images import ImageLimits, decode_image
from faceattr.errors import ImageError, ModelError
from faceattr.evaluation.judged import TOP
from faceattr.evaluation.scores import Scores, score_outputs
from faceattr.inference.pixels import resize_for
from faceattr.inference.prediction import Prediction, read_predictions
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.transforms import Normalise
from faceattr.vqa.device import resolve_device

logger = logging.getLogger(__name__)
_Item = TypeVar("_Item")
ImageSource = str | Path | bytes | np.ndarray
"""A path, encoded bytes, or RGB pixels uint8 [H, W, 3]."""


class Predictor:
    """A model with its preprocessing, calibration and thresholds.

    Attributes:
        model: in evaluation mode, on `device`.
        device: where it computes.
        batch_size: images in a forward pass; halved where the device's memory does not suffice.
    """

    def __init__(
        self,
        model: MultiAttributeModel,
        *,
        device: str | torch.device = "auto",
        batch_size: int | None = None,
        limits: ImageLimits | None = None,
    ) -> None:
        """Moves the model to the device.

        Args:
            model: becomes part of the predictor; put into evaluation mode.
            device: `auto` is a GPU if there is one, else the CPU.
            batch_size: by default 64 on a GPU, 16 on a CPU.
            limits: what an encoded image may be.

        Raises:
            ConfigError: no such device.
            ModelError: the model's calibration cannot be read.
        """
        self.device = resolve_device(str(device))
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload] # not in its stubs
        self.batch_size = batch_size or (64 if self.device.type == "cuda" else 16)
        self._limits = limits or ImageLimits()
        self._normalise = Normalise(model.backbone.preprocessing).to(self.device)
        self._scores = Scores(model.attributes, model.calibration).to(self.device)

    @property
    def size_px(self) -> int:
        """Side S of the square that the model takes."""
        return self.model.backbone.preprocessing.size_px

    def outputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """The model's own outputs, before calibration.

        Args:
            pixels: uint8 [n, S, S, 3], from `faceattr.inference.pixels`.

        Returns:
            Attribute -> float32 [n, outputs]; see `faceattr.models.heads`.
        """
        return self._in_batches(pixels, lambda outputs: outputs)

    def kept_outputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """What evaluation keeps of the outputs, by column of `faceattr.evaluation.judged.output_columns`."""
        kept: dict[str, np.ndarray] = {}
        outputs = self.outputs(pixels)
        for each in self.model.attributes.attributes:
            column, values = f"output_{each.name}", outputs[each.name]
            match each.kind:
                case "binary":
                    kept[column] = values[:, 0]
                case "multiclass":
                    kept[column] = values
                case "age":
                    kept[column] = score_outputs(each, values, None)
                case "identity":
                    kept[column] = np.argsort(-values, axis=1, kind="stable")[:, :TOP].astype(np.int32)
                    kept[f"certainty_{each.name}"] = score_outputs(each, values, None).max(1, initial=0.0)
        return kept

    def score(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Calibrated scores: attribute -> float32 [n] or [n, classes], years for ages; see `evaluation.scores`."""
        return self._in_batches(pixels, self._scores)

    def predict_pixels(self, pixels: np.ndarray) -> list[Prediction]:
        """Predictions for uint8 [n, S, S, 3]."""
        return read_predictions(self.model.attributes, self.score(pixels), self.model.thresholds)

    def predict_images(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Predictions for RGB pixels of any size, each uint8 [H, W, 3]."""
        if not images:
            return []
        preprocessing = self.model.backbone.preprocessing
        return self.predict_pixels(np.stack([resize_for(image, preprocessing) for image in images]))

    def predict(
        self, images: Sequence[ImageSource], *, transform: Callable[[np.ndarray], Tensor] | None = None
    ) -> list[Prediction | ImageError]:
        """Predictions in the order of the images; an image that cannot be used has its error at its own place.

        Args:
            images: paths, encoded bytes, or RGB pixels.
            transform: RGB uint8 [H, W, 3] -> normalised float32 [3, S, S], in place of the model's own preprocessing.
        """
        results: list[Prediction | ImageError] = []
        for loaded in self._load_batches(images, transform):
            good = [each for each in loaded if not isinstance(each, ImageError)]
            predictions = iter(self._predict_loaded(good, given=transform is not None))
            results += [each if isinstance(each, ImageError) else next(predictions) for each in loaded]
        return results

    def _predict_loaded(self, loaded: list[np.ndarray], *, given: bool) -> list[Prediction]:
        if not loaded:
            return []
        if not given:
            return self.predict_pixels(np.stack(loaded))
        with torch.inference_mode():
            scores = self._scores(self.model(torch.from_numpy(np.stack(loaded)).to(self.device)))
        arrays = {name: score.cpu().numpy() for name, score in scores.items()}
        return read_predictions(self.model.attributes, arrays, self.model.thresholds)

    def _load_batches(
        self, images: Sequence[ImageSource], transform: Callable[[np.ndarray], Tensor] | None
    ) -> Iterator[list[np.ndarray | ImageError]]:
        """Decoded and resized, a batch at a time; the next one is made while one is computed with."""
        # On a CPU decoding and computing share the cores, and more threads would only take turns.
        with ThreadPoolExecutor(4 if self.device.type == "cuda" else 1) as pool:

            def submit(batch: Sequence[ImageSource]) -> list[Future[np.ndarray | ImageError]]:
                return [pool.submit(self._load, image, transform) for image in batch]

            ahead: list[Future[np.ndarray | ImageError]] = []
            for batch in _batches(images, self.batch_size):
                coming = submit(batch)
                if ahead:
                    yield [future.result() for future in ahead]
                ahead = coming
            if ahead:
                yield [future.result() for future in ahead]

    def _load(self, image: ImageSource, transform: Callable[[np.ndarray], Tensor] | None) -> np.ndarray | ImageError:
        try:
            rgb = load_rgb(image, self._limits)
        except ImageError as error:
            return error
        if transform is not None:
            return np.asarray(transform(rgb), np.float32)
        return resize_for(rgb, self.model.backbone.preprocessing)

    def _in_batches(
        self, pixels: np.ndarray, finish: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    ) -> dict[str, np.ndarray]:
        size = self.size_px
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"expected uint8 pixels [n, {size}, {size}, 3], found {pixels.dtype} {list(pixels.shape)}")
        if not len(pixels):  # some backbones cannot take an empty batch; one black image shows the shapes
            black = np.zeros((1, size, size, 3), np.uint8)
            return {name: values[:0] for name, values in self._forward(black, finish).items()}
        parts: list[dict[str, np.ndarray]] = []
        start = 0
        while start < len(pixels):
            batch = pixels[start : start + self.batch_size]
            try:
                parts.append(self._forward(batch, finish))
                start += len(batch)
                continue
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise ModelError(f"one image does not fit into the memory of {self.device}: {error}") from error
            # Past the handler, so that the traceback no longer keeps the failed batch's tensors alive.
            torch.cuda.empty_cache()
            self.batch_size = len(batch) // 2
            logger.warning("batch_halved reason=out_of_memory batch_size=%d", self.batch_size)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @torch.inference_mode()
    def _forward(
        self, pixels: np.ndarray, finish: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    ) -> dict[str, np.ndarray]:
        # Arrays from Ray's object store are read-only, which torch cannot express.
        images = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device, non_blocking=True)
        outputs = finish(self.model(self._normalise(images.permute(0, 3, 1, 2))))
        return {name: output.float().cpu().numpy() for name, output in outputs.items()}


def load_rgb(image: ImageSource, limits: ImageLimits | None = None) -> np.ndarray:
    """RGB pixels uint8 [H, W, 3] of a path, of encoded bytes, or of pixels as they are.

    Raises:
        ImageError: there is no such file, or it is no image that can be used.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected RGB pixels uint8 [H, W, 3], found {image.dtype} {list(image.shape)}")
        return image
    if isinstance(image, bytes):
        return decode_image(image, limits or ImageLimits())
    try:
        data = Path(image).expanduser().read_bytes()
    except OSError as error:
        raise ImageError("missing", f"{image}: {error.strerror}") from error
    return decode_image(data, limits or ImageLimits())


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
