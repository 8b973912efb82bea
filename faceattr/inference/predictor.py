"""Predictor: maps images to calibrated scores and labels, in batches, on a CPU or a GPU."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceattr.config import ImageLimitsConfig, PrecisionChoice
from faceattr.data.images.decode import decode_image, describe_too_large
from faceattr.data.images.face_view import FaceView
from faceattr.data.stores.local_files import read_regular_file
from faceattr.data.stores.store import LargeObjectError, MissingObjectError
from faceattr.devices import resolve_device
from faceattr.errors import ImageError, ModelError, StorageError
from faceattr.evaluation.scores import Scores, keep_outputs
from faceattr.inference.faces import process_face_finder
from faceattr.inference.prediction import Prediction, read_predictions
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.resize import resize_for
from faceattr.training.loop.forward import Forward

logger = logging.getLogger(__name__)
_Item = TypeVar("_Item")
ImageSource = str | Path | bytes | np.ndarray
"""A path, encoded bytes, or RGB pixels uint8 [H, W, 3]."""
_LOADERS_PER_GPU = 4
_EMBEDDING = "embedding"


class Predictor:
    """A model with its preprocessing, calibration and thresholds.

    Attributes:
        model: the model in evaluation mode, on `device`.
        device: where the model runs.
        batch_size: number of images in a forward pass; halved if the device runs out of memory.
        faces: which part of an image the model is shown; None for all of it.
    """

    def __init__(
        self,
        model: MultiAttributeModel,
        *,
        device: str | torch.device = "auto",
        batch_size: int | None = None,
        precision: PrecisionChoice = "auto",
        limits: ImageLimitsConfig | None = None,
        flip: bool = False,
        faces: FaceView | Literal["model"] | None = "model",
    ) -> None:
        """Moves the model to the device.

        Args:
            model: becomes part of the predictor and is set to evaluation mode.
            device: where the model runs; `auto` is a GPU if there is one, else the CPU.
            batch_size: number of images in a forward pass; by default 64 on a GPU, 16 on a CPU.
            precision: dtype of the network's computation, see `faceattr.precision`; scores are always float32.
            limits: limits on encoded images.
            flip: whether outputs are the mean for an image and its mirror image, which takes twice as long.
            faces: which part of an image the model is shown, None for all of it; `model` for the same as in its
                training. Images that are given as pixels of faces, to `predict_images`, are shown whole.

        Raises:
            ConfigError: the device does not exist.
            ModelError: the model's calibration cannot be read.
        """
        self.device = resolve_device(str(device))
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload] # not in its stubs
        self.batch_size = batch_size or (64 if self.device.type == "cuda" else 16)
        self._limits = limits or ImageLimitsConfig()
        self._flip = flip
        self.faces = model.faces if faces == "model" else faces
        preprocessing = model.backbone.preprocessing
        self._compute = Forward(preprocessing, precision=precision, device=self.device)
        self._compute_exactly = (
            None
            if self._compute.precision == "float32"
            else Forward(preprocessing, precision="float32", device=self.device)
        )
        self._scores = Scores(model.attributes, model.calibration).to(self.device)
        self._embedder = _Embedder(self.model.backbone)

    @property
    def size_px(self) -> int:
        """Side S of the model's square input."""
        return self.model.backbone.preprocessing.size_px

    def outputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the model's outputs before calibration.

        Args:
            pixels: uint8 [n, S, S, 3], from `faceattr.models.resize`.

        Returns:
            Attribute -> float32 [n, outputs]; see `faceattr.models.heads`.
        """
        return self._in_batches(pixels, lambda outputs: outputs)

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Returns embeddings for verification: the backbone's pooled features, float32 [n, features] of length 1."""
        return self._in_batches(pixels, _to_length_1, self._embedder)[_EMBEDDING]

    def kept_outputs(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the outputs that evaluation stores, by column of `faceattr.data.label_columns.output_columns`."""
        kept: dict[str, np.ndarray] = {}
        outputs = self.outputs(pixels)
        for each in self.model.attributes.attributes:
            kept |= keep_outputs(each, outputs[each.name])
        return kept

    def score(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Returns calibrated scores: attribute -> float32 [n] or [n, classes], or years; see `evaluation.scores`."""
        return self._in_batches(pixels, self._scores)

    def predict_pixels(self, pixels: np.ndarray) -> list[Prediction]:
        """Predicts uint8 pixels [n, S, S, 3]."""
        return read_predictions(self.model.attributes, self.score(pixels), self.model.thresholds)

    def predict_images(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Predicts RGB images of any size, each uint8 [H, W, 3]."""
        if not images:
            return []
        preprocessing = self.model.backbone.preprocessing
        return self.predict_pixels(np.stack([resize_for(image, preprocessing) for image in images]))

    def predict(
        self, images: Sequence[ImageSource], *, transform: Callable[[np.ndarray], Tensor] | None = None
    ) -> list[Prediction | ImageError]:
        """Predicts images in their order; an image that cannot be used has its error in its position.

        Args:
            images: paths, encoded bytes, or RGB pixels.
            transform: RGB uint8 [H, W, 3] -> normalised float32 [3, S, S], replaces the model's own preprocessing.
        """
        return list(self.stream(images, transform=transform))

    def predict_decoded(self, images: Iterable[np.ndarray | ImageError]) -> list[Prediction | ImageError]:
        """Predicts images that were decoded elsewhere, RGB uint8 [H, W, 3]; an error stays in its position.

        Of an iterator, one image at a time is in memory at its full size.
        """
        loaded = [each if isinstance(each, ImageError) else self._load(each, None) for each in images]
        return self._predict_loaded(loaded, given=False)

    def stream(
        self, images: Sequence[ImageSource], *, transform: Callable[[np.ndarray], Tensor] | None = None
    ) -> Iterator[Prediction | ImageError]:
        """Yields the results of `predict` one by one, with only a few batches in memory."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else _LOADERS_PER_GPU
        if len(images) < max(threads, 2):
            yield from self._predict_batch(images, transform)
        else:
            yield from self._predict_in_threads(images, transform, threads)

    def _predict_in_threads(
        self, images: Sequence[ImageSource], transform: Callable[[np.ndarray], Tensor] | None, threads: int
    ) -> Iterator[Prediction | ImageError]:
        """Predicts with several threads, each of which takes batches from the file to the prediction.

        Cores that share a forward pass wait for each other in every operation, and for every image to be decoded; so
        each thread computes on one core. A GPU works for one thread while the others decode.
        """
        batches = _batches(images, min(self.batch_size, len(images) // threads))
        cores = torch.get_num_threads()
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            waiting: deque[Future[list[Prediction | ImageError]]] = deque()
            for batch in batches:
                waiting.append(pool.submit(self._predict_batch, batch, transform))
                if len(waiting) == 2 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(cores)  # threads that start later use the value that was set last

    def _predict_batch(
        self, images: Sequence[ImageSource], transform: Callable[[np.ndarray], Tensor] | None
    ) -> list[Prediction | ImageError]:
        return self._predict_loaded([self._load(image, transform) for image in images], given=transform is not None)

    def _predict_loaded(
        self, loaded: Sequence[np.ndarray | ImageError], *, given: bool
    ) -> list[Prediction | ImageError]:
        """Predicts the loaded images, and keeps errors in position; `given`: the caller normalised the images."""
        good = [each for each in loaded if not isinstance(each, ImageError)]
        found: Iterator[Prediction] = iter(())
        if good and given:
            arrays = self._forward(np.stack(good), self._scores, self.model)
            found = iter(read_predictions(self.model.attributes, arrays, self.model.thresholds))
        elif good:
            found = iter(self.predict_pixels(np.stack(good)))
        return [each if isinstance(each, ImageError) else next(found) for each in loaded]

    def _load(self, image: ImageSource, transform: Callable[[np.ndarray], Tensor] | None) -> np.ndarray | ImageError:
        try:
            rgb = load_rgb(image, self._limits)
            if self.faces is not None:
                rgb = process_face_finder(self.faces).find(rgb).pixels
        except ImageError as error:
            return error
        if transform is not None:
            return np.asarray(transform(rgb), np.float32)
        return resize_for(rgb, self.model.backbone.preprocessing)

    def _in_batches(
        self,
        pixels: np.ndarray,
        finish: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
        network: nn.Module | None = None,
    ) -> dict[str, np.ndarray]:
        network = network or self.model
        size = self.size_px
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"expected uint8 pixels [n, {size}, {size}, 3], found {pixels.dtype} {list(pixels.shape)}")
        if not len(pixels):  # some backbones fail on an empty batch; one black image gives the shapes
            black = np.zeros((1, size, size, 3), np.uint8)
            return {name: values[:0] for name, values in self._forward(black, finish, network).items()}
        parts: list[dict[str, np.ndarray]] = []
        start = 0
        while start < len(pixels):
            batch = pixels[start : start + self.batch_size]
            try:
                parts.append(self._forward(batch, finish, network))
                start += len(batch)
                continue
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise ModelError(f"one image does not fit into the memory of {self.device}: {error}") from error
            # After the handler, so that the traceback no longer keeps the failed batch's tensors alive.
            torch.cuda.empty_cache()
            self.batch_size = len(batch) // 2
            logger.warning("batch_halved reason=out_of_memory batch_size=%d", self.batch_size)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @torch.inference_mode()
    def _forward(
        self,
        inputs: np.ndarray,
        finish: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
        network: nn.Module,
    ) -> dict[str, np.ndarray]:
        """Runs the network on uint8 pixels [n, S, S, 3], or on normalised float32 [n, 3, S, S]."""
        # Arrays from Ray's object store are read-only, which torch does not support.
        images = torch.from_numpy(np.require(inputs, requirements=["C", "W"])).to(self.device, non_blocking=True)
        network_inputs = images.permute(0, 3, 1, 2) if inputs.dtype == np.uint8 else images
        outputs = self._run(network, network_inputs)
        if self._flip:
            mirrored = self._run(network, network_inputs.flip(-1))
            outputs = {name: (values + mirrored[name]) / 2 for name, values in outputs.items()}
        results = {name: values.float() for name, values in finish(outputs).items()}
        self._check_finite(results, "scores")
        return {name: values.cpu().numpy() for name, values in results.items()}

    def _run(self, network: nn.Module, network_inputs: Tensor) -> dict[str, Tensor]:
        """Maps inputs [n, 3, S, S] to the network's outputs by name, float32 and finite."""
        outputs = {name: values.float() for name, values in self._compute(network, network_inputs).items()}
        overflown = ~_finite_rows(outputs)
        if overflown.any():
            exact = self._outputs_exactly(network, network_inputs[overflown])
            for name, values in outputs.items():
                values[overflown] = exact[name]
        return outputs

    def _outputs_exactly(self, network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
        """Recomputes outputs in float32, for images on which half precision overflowed."""
        if self._compute_exactly is None:
            raise ModelError(_describe_not_finite("outputs", len(inputs)))
        logger.warning("half_precision_overflow images=%d recomputed_in=float32", len(inputs))
        outputs = {name: values.float() for name, values in self._compute_exactly(network, inputs).items()}
        self._check_finite(outputs, "outputs")
        return outputs

    @staticmethod
    def _check_finite(values: Mapping[str, Tensor], what: str) -> None:
        num_bad = int((~_finite_rows(values)).sum())
        if num_bad:
            raise ModelError(_describe_not_finite(what, num_bad))


class _Embedder(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self._backbone = backbone

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {_EMBEDDING: self._backbone(images)}


def _to_length_1(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: functional.normalize(values, dim=1) for name, values in outputs.items()}


def _finite_rows(values: Mapping[str, Tensor]) -> Tensor:
    """Returns whether all values of a row are finite for every attribute, bool [n]."""
    return torch.stack(
        [each.isfinite().flatten(1).all(1) if each.ndim > 1 else each.isfinite() for each in values.values()]
    ).all(0)


def _describe_not_finite(what: str, num_images: int) -> str:
    return (
        f"the model's {what} for {num_images} of a batch's images are not finite in float32; its weights or its "
        "calibration are broken: use another checkpoint, or train again"
    )


def load_rgb(image: ImageSource, limits: ImageLimitsConfig | None = None) -> np.ndarray:
    """Returns the RGB pixels, uint8 [H, W, 3], of a path, of encoded bytes, or of pixels, which are returned unchanged.

    Raises:
        ImageError: the file does not exist, or is not a usable image.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected RGB pixels uint8 [H, W, 3], found {image.dtype} {list(image.shape)}")
        return image
    limits = limits or ImageLimitsConfig()
    if isinstance(image, bytes):
        return decode_image(image, limits)
    try:
        data = read_regular_file(Path(image).expanduser(), max_bytes=limits.max_bytes)
    except LargeObjectError as error:
        raise describe_too_large(error.num_bytes, limits) from error
    except MissingObjectError as error:
        raise ImageError("missing", f"{image}: no such file") from error
    except StorageError as error:
        raise ImageError("unreadable", str(error)) from error
    return decode_image(data, limits)


def _batches(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
