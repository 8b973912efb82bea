"""Batches on the device one step before they are needed: a GPU copies the next one while it computes."""

import contextlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch

from faceattr.training.targets import Batch


@dataclass(frozen=True, kw_only=True)
class PlacedBatch:
    """A batch in two places, which are one on a CPU.

    Attributes:
        host: the batch on the CPU, whose labels are read there without waiting for the device.
        device: the batch on the device.
    """

    host: Batch
    device: Batch


class Copies(Protocol):
    """Copies batches to a device."""

    def start(self, batch: Batch) -> PlacedBatch:
        """Begins to copy a batch and returns at once."""

    def finish(self, placed: PlacedBatch) -> None:
        """Makes what the device computes from now on wait for the oldest copy that was begun, `placed`."""


def copy_ahead(batches: Iterable[Batch], device: torch.device, copies: Copies | None = None) -> Generator[PlacedBatch]:
    """Yields batches on a device, in order; each is copied while the one before it is used.

    On a CPU they pass through. An error of the source comes at once, in place of the batch that is still being copied.

    Args:
        batches: batches on the CPU, pinned if the copies are to overlap with computation; closed at the end if they
            can be.
        device: where the batches are used.
        copies: how they are copied; by default, to a GPU on a stream of its own.
    """
    source = iter(batches)
    if copies is None and device.type == "cuda":
        copies = _StreamCopies(device)
    with contextlib.ExitStack() as stack:
        close = getattr(source, "close", None)
        if close is not None:
            stack.callback(close)
        if copies is None:
            yield from (PlacedBatch(host=batch, device=batch) for batch in source)
            return
        before: PlacedBatch | None = None
        for batch in source:
            placed = copies.start(batch)
            if before is not None:
                copies.finish(before)
                yield before
            before = placed
        if before is not None:
            copies.finish(before)
            yield before


class _StreamCopies:
    """Copies on a CUDA stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._begun: list[torch.cuda.Event] = []

    def start(self, batch: Batch) -> PlacedBatch:
        with torch.cuda.stream(self._stream):
            placed = PlacedBatch(host=batch, device=batch.to(self._device))
            self._begun.append(self._stream.record_event())
        return placed

    def finish(self, placed: PlacedBatch) -> None:
        current = torch.cuda.current_stream(self._device)
        current.wait_event(self._begun.pop(0))
        for tensor in placed.device.tensors():
            tensor.record_stream(current)  # its memory was allocated for the other stream
