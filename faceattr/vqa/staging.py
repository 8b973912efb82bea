"""How rows of an array in host memory reach the device that computes on them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

# One batch is copied into its buffer, one is on its way, one is computed on.
_NUM_SLOTS = 3


class Staging(Protocol):
    """Makes rows available on a device."""

    def on_device(self, rows: np.ndarray) -> AbstractContextManager[Tensor]:
        """Yields the rows on the device, for work that is queued inside the `with` block."""
        ...


def build_staging(device: torch.device) -> Staging:
    """Returns page-locked staging for a GPU; on the CPU rows stay where they are."""
    return InPlace() if device.type == "cpu" else StagingRing(device)


class InPlace:
    """Rows for the CPU, without a copy."""

    @contextmanager
    def on_device(self, rows: np.ndarray) -> Iterator[Tensor]:
        """See `Staging`."""
        # Arrays from Ray's object store are read-only, which torch does not support.
        yield torch.from_numpy(np.require(rows, requirements=["C", "W"]))


class StagingRing:
    """Three pairs of buffers in turn, page-locked on the host, and a stream for the copies between them.

    A copy from ordinary memory makes the host wait. From page-locked memory it runs beside the kernels of the batch
    before, and the host only waits when it is three batches ahead of the device.
    """

    def __init__(self, device: torch.device, *, page_locked: bool = True) -> None:
        """Args: the device; whether its driver can lock host memory (the CPU, as a device in tests, cannot)."""
        self._device = device
        self._page_locked = page_locked
        self._streams = torch.get_device_module(device)
        self._copies = self._streams.Stream()
        self._slots = [_Slot(self._streams) for _ in range(_NUM_SLOTS)]
        self._turn = 0

    @contextmanager
    def on_device(self, rows: np.ndarray) -> Iterator[Tensor]:
        """See `Staging`. The tensor is overwritten three batches later."""
        slot = self._slots[self._turn]
        self._turn = (self._turn + 1) % _NUM_SLOTS
        computing = self._streams.current_stream()
        slot.copied.synchronize()
        if not slot.holds(rows):
            slot.allocate(rows, self._device, page_locked=self._page_locked)
            # The device's memory may come from a tensor that queued kernels still read.
            self._copies.wait_stream(computing)
        np.copyto(slot.host.numpy()[: len(rows)], rows)
        with self._streams.stream(self._copies):
            self._copies.wait_event(slot.used)
            slot.device[: len(rows)].copy_(slot.host[: len(rows)], non_blocking=True)
            slot.copied.record(self._copies)
        computing.wait_event(slot.copied)
        try:
            yield slot.device[: len(rows)]
        finally:
            slot.used.record(computing)


class _Slot:
    """A buffer on the host, one on the device, and when they may be written again.

    Attributes:
        host: [n, ...], filled by the host.
        device: the same on the device.
        copied: the copy from host to device has ended.
        used: the work on the device's buffer has ended.
    """

    def __init__(self, streams: Any) -> None:
        self.host = self.device = torch.empty(0)
        self.copied = streams.Event()
        self.used = streams.Event()

    def holds(self, rows: np.ndarray) -> bool:
        return len(self.host) >= len(rows) and self.host.shape[1:] == rows.shape[1:]

    def allocate(self, rows: np.ndarray, device: torch.device, *, page_locked: bool) -> None:
        dtype = torch.from_numpy(np.empty(0, rows.dtype)).dtype
        self.host = torch.empty(rows.shape, dtype=dtype, pin_memory=page_locked)
        self.device = torch.empty(rows.shape, dtype=dtype, device=device)
