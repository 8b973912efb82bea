"""A replica: one process with the model, which answers single images in batches of those that wait at the same time."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ray import serve

from faceattr.config import DecodeConfig, ImageLimitsConfig
from faceattr.data.images.decoder import process_decoder
from faceattr.errors import ImageError
from faceattr.inference.pictures import Picture
from faceattr.inference.prediction import Prediction
from faceattr.inference.predictor import Predictor
from faceattr.jobs.cluster.recipe import ActorRecipe
from faceattr.jobs.serve.http.requests import Upload
from faceattr.jobs.serve.http.scored import Scored


class ModelReplica:
    """Decodes images in a child process, which an image may crash, and predicts them in one thread of this one.

    Args:
        build_predictor: builds the `Predictor` in this process.
        decode: limits of an image.
        batch_size: most images of a batch.
        batch_wait_s: how long an image waits for others, in seconds.
    """

    def __init__(
        self, build_predictor: ActorRecipe, decode: DecodeConfig, *, batch_size: int, batch_wait_s: float
    ) -> None:
        # One thread builds the model and calls it: what a library keeps per thread exists once.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._predictor: Predictor = self._thread.submit(build_predictor).result()
        limits = ImageLimitsConfig(max_bytes=decode.max_bytes, max_pixels=decode.max_pixels)
        self._decoder = process_decoder(limits, deadline_s=decode.timeout_s)
        self._answer_batch.set_max_batch_size(batch_size)
        self._answer_batch.set_batch_wait_timeout_s(batch_wait_s)

    async def score(self, upload: Upload, confidence: bool) -> Scored:
        """Predicts one image; see `faceattr.jobs.serve.http.scored.UploadScorer`."""
        found: Scored = await self._answer_batch(upload, confidence)
        return found

    @serve.batch
    async def _answer_batch(self, uploads: list[Upload], confidences: list[bool]) -> list[Scored]:
        started_s = time.perf_counter()
        # In its thread, so that the next batch is gathered meanwhile.
        images = [each.data for each in uploads]
        found = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, images)
        took_s = time.perf_counter() - started_s
        return [
            describe(upload, result, confidence, batch_images=0 if place else len(uploads), batch_s=took_s)
            for place, (upload, result, confidence) in enumerate(zip(uploads, found, confidences, strict=True))
        ]

    def _predict(self, images: Sequence[bytes]) -> list[Prediction | ImageError]:
        return self._predictor.predict_decoded(self._decoder.decode_each(images))


def describe(
    upload: Upload, found: Prediction | ImageError, confidence: bool, *, batch_images: int, batch_s: float
) -> Scored:
    """Returns a result in the words of `faceattr predict --json`, with which batch it came out of."""
    if isinstance(found, ImageError):
        picture, reason = Picture(path=Path(upload.name), error=str(found)), found.reason
    else:
        picture, reason = Picture(path=Path(upload.name), prediction=found), None
    return Scored(values=picture.to_dict(confidence), reason=reason, batch_images=batch_images, batch_s=batch_s)
