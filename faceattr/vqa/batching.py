"""Batches that are halved until they fit into the device's memory, and keep that size."""

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from faceattr.errors import ModelError
from faceattr.vqa.staging import Staging

_log = logging.getLogger(__name__)


class HalvingBatcher:
    """Runs a function over the rows of an array in batches; a batch that runs out of memory is halved.

    Attributes:
        batch_size: rows of the largest batch that is still tried; it never grows.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        batch_size: int,
        *,
        staging: Staging,
        is_fixed: bool = False,
    ) -> None:
        """Creates the batcher.

        Args:
            forward: rows on the device -> results on the device, as many.
            batch_size: rows of a batch.
            staging: how rows reach the device.
            is_fixed: whether a shorter batch is filled up with zeros, for a function that is compiled for one shape.
        """
        self.batch_size = batch_size
        self._forward = forward
        self._staging = staging
        self._is_fixed = is_fixed

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Returns the results of all rows (at least one), in order, concatenated along axis 0.

        The device works through the batches while the host prepares the next ones; only the end waits for it.

        Raises:
            ModelError: a single row does not fit.
        """
        results: list[Tensor] = []
        start = 0
        while start < len(rows):
            batch = rows[start : start + self.batch_size]
            try:
                with self._staging.on_device(self._filled(batch)) as staged:
                    results.append(self._forward(staged)[: len(batch)])
                start += len(batch)
                continue
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise ModelError(
                        f"one image does not fit into the device's memory ({error}); "
                        "give each actor a larger share of the GPU or ask fewer questions"
                    ) from error
            # After the handler, so that the traceback no longer references the failed batch's tensors.
            torch.cuda.empty_cache()
            self.batch_size = len(batch) // 2
            _log.warning("batch_halved reason=out_of_memory batch_size=%d", self.batch_size)
        return torch.cat(results).cpu().numpy()

    def _filled(self, batch: np.ndarray) -> np.ndarray:
        num_missing = self.batch_size - len(batch)
        if not self._is_fixed or num_missing == 0:
            return batch
        return np.concatenate([batch, np.zeros((num_missing, *batch.shape[1:]), batch.dtype)])
