"""Batches that are halved until they fit into the device's memory, and keep that size."""

import logging
from collections.abc import Callable

import numpy as np
import torch

from faceattr.errors import ModelError

_log = logging.getLogger(__name__)


class HalvingBatcher:
    """Runs a function over the rows of an array in batches; a batch that runs out of memory is halved.

    Attributes:
        batch_size: rows of the largest batch that is still tried; it never grows.
    """

    def __init__(self, forward: Callable[[np.ndarray], np.ndarray], batch_size: int) -> None:
        self.batch_size = batch_size
        self._forward = forward

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Returns the results of all rows (at least one), in order, concatenated along axis 0.

        Raises:
            ModelError: a single row does not fit.
        """
        results: list[np.ndarray] = []
        start = 0
        while start < len(rows):
            batch = rows[start : start + self.batch_size]
            try:
                results.append(self._forward(batch))
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
        return np.concatenate(results)
