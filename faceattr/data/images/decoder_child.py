"""The disposable process that decodes images for `faceattr.data.images.decoder`, and the memory that both share.

The parent writes encoded images into the shared memory and their number, one byte, into a pipe; the child decodes them
in order, writes pixels or a reason after them, and answers with one byte when the batch is done. Only these two bytes
pass through the kernel, so a batch costs one wake-up each way. Layout, where P is the page size:

    0                       int64 images done, float64 monotonic second at which the current one was started
    16 + 32 i               image i: int64 encoded bytes; then the answer: int64 kind, int64 height, int64 width
    P                       the encoded images, one after the other
    P + max_bytes           the answers, one after the other: uint8 [height, width, 3], or `height` bytes of text

Run as `python -m faceattr.data.images.decoder_child`, it imports neither torch nor ray.
"""

import ctypes
import mmap
import os
import resource
import signal
import struct
import sys
import time
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import AvifImagePlugin

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import Pixels, decode_image
from faceattr.errors import ImageError

MAX_BATCH = 127
_MAX_BATCH_BYTES = 4 * 2**20
READY, DONE = b"R", b"D"
EXIT_OUT_OF_MEMORY = 77

Decoded = Pixels | ImageError

_NUM_BYTES = struct.Struct("=q")
_ANSWER = struct.Struct("=qqq")
_TABLE, _ENTRY_BYTES, _ANSWER_OFFSET = 16, 32, 8
_PAGE_BYTES = mmap.PAGESIZE
_PIXELS, _REFUSED = 0, 1
_MAX_TEXT_BYTES = 4096
_PR_SET_PDEATHSIG = 1


class SharedExchange:
    """One batch of encoded images and of their answers, in memory that both processes map.

    Args:
        descriptor: descriptor of a memory file of `compute_size(limits)` bytes.
        limits: what the regions must be able to store: at least one image of the largest size.

    Attributes:
        num_used_bytes: bytes of the last written batch and the last read answers, in the parent.
    """

    def __init__(self, descriptor: int, limits: ImageLimitsConfig) -> None:
        self._limits = limits
        self._map = mmap.mmap(descriptor, self.compute_size(limits))
        # The child writes them while the parent reads. `struct` stores byte by byte, and half a time may be a time long
        # past: a decoder that seems to hang. An element of a view is stored and loaded by one instruction.
        self._num_done = memoryview(self._map)[:8].cast("q")
        self._begun_s = memoryview(self._map)[8:16].cast("d")
        self._answers_at = _PAGE_BYTES + limits.max_bytes
        self.num_used_bytes = 0

    @staticmethod
    def compute_size(limits: ImageLimitsConfig) -> int:
        """Returns the bytes of the memory file; only pages that are written use memory."""
        return _PAGE_BYTES + limits.max_bytes + max(3 * limits.max_pixels, _MAX_TEXT_BYTES)

    def write_batch(self, images: Sequence[bytes]) -> int:
        """Writes images up to a few megabytes, at least one, marks none as done, and returns their number."""
        end, count = _PAGE_BYTES, 0
        for image in images[:MAX_BATCH]:
            # Pixels that do not fit after the others are decoded twice: a batch has one large image or many small ones.
            if count and end + len(image) > min(self._answers_at, _PAGE_BYTES + _MAX_BATCH_BYTES):
                break
            self._map[end : end + len(image)] = image
            _NUM_BYTES.pack_into(self._map, _TABLE + _ENTRY_BYTES * count, len(image))
            end += len(image)
            count += 1
        self.write_state(0)
        self.num_used_bytes = end
        return count

    def read_state(self) -> tuple[int, float]:
        """Returns the number of images done, and the start of the current one in seconds of `time.monotonic`."""
        return self._num_done[0], self._begun_s[0]

    def write_state(self, num_done: int) -> None:
        """Writes the number of images done; the next one begins now."""
        self._begun_s[0] = time.monotonic()
        self._num_done[0] = num_done

    def read_answers(self, count: int) -> list[Decoded]:
        """Returns copies of the first `count` answers; it stops before the first invalid answer."""
        answers: list[Decoded] = []
        start = self._answers_at
        for index in range(count):
            kind, height, width = _ANSWER.unpack_from(self._map, _TABLE + _ENTRY_BYTES * index + _ANSWER_OFFSET)
            size = height * width * 3 if kind == _PIXELS else height
            if kind not in (_PIXELS, _REFUSED) or min(height, width) < 0 or start + size > len(self._map):
                break
            if kind == _PIXELS:
                flat = np.frombuffer(self._map, np.uint8, size, start)
                answers.append(flat.reshape(height, width, 3).copy())
            else:
                reason, _, detail = self._map[start : start + size].decode(errors="replace").partition("\n")
                answers.append(ImageError(reason, detail))
            start += size
        self.num_used_bytes += start - self._answers_at
        return answers

    def answer_batch(self, count: int) -> None:
        """Decodes the first `count` images in order, until the pixels of one do not fit after those before it."""
        memory = np.frombuffer(self._map, np.uint8)
        image_start, start = _PAGE_BYTES, self._answers_at
        for index in range(count):
            self.write_state(index)
            entry = _TABLE + _ENTRY_BYTES * index
            (num_bytes,) = _NUM_BYTES.unpack_from(self._map, entry)
            free = memory[start:]
            try:
                pixels = decode_image(self._map[image_start : image_start + num_bytes], self._limits, buffer=free)
            except ImageError as error:
                text = f"{error.reason}\n{error.detail}".encode()[:_MAX_TEXT_BYTES]
                kind, height, width, content = _REFUSED, len(text), 0, np.frombuffer(text, np.uint8)
            else:
                kind, (height, width, _), content = _PIXELS, pixels.shape, pixels.reshape(-1)
            if content.size > free.size:
                return
            if not np.may_share_memory(content, free):
                free[: content.size] = content
            _ANSWER.pack_into(self._map, entry + _ANSWER_OFFSET, kind, height, width)
            self.write_state(index + 1)
            image_start += num_bytes
            start += content.size

    def release_pages(self) -> None:
        """Returns the memory of images and answers to the system; the mapping stays."""
        self._map.madvise(mmap.MADV_REMOVE, _PAGE_BYTES)

    def close(self) -> None:
        """Unmaps the memory."""
        self._num_done.release()
        self._begun_s.release()
        self._map.close()


def run_child(
    request_fd: int, reply_fd: int, memory_fd: int, *, parent_pid: int, memory_bytes: int, limits: ImageLimitsConfig
) -> None:
    """Serves batches until the parent closes its end of the pipe or dies.

    Args:
        request_fd: descriptor that one byte, the number of images in the batch, is read from.
        reply_fd: descriptor that READY, and DONE after each batch, are written to.
        memory_fd: memory file of a SharedExchange.
        parent_pid: process id of the parent; the child exits without it.
        memory_bytes: limit on the address space, without the shared memory.
        limits: bounds for one image.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        return  # the parent died before the call above, so no signal will come
    # A terminal interrupt reaches the whole process group; the parent decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exchange = SharedExchange(memory_fd, limits)
    address_space = memory_bytes + SharedExchange.compute_size(limits)
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # One thread per core of a large machine would exhaust the address space with stacks alone.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    warnings.simplefilter("ignore")  # Pillow warns about metadata
    os.write(reply_fd, READY)
    while count := os.read(request_fd, 1):
        try:
            exchange.answer_batch(count[0])
        except MemoryError:
            os._exit(EXIT_OUT_OF_MEMORY)
        os.write(reply_fd, DONE)


def main(arguments: Sequence[str]) -> None:
    """Reads the parameters of `run_child` from the command line, all integers."""
    *numbers, max_bytes, max_pixels = map(int, arguments)
    request_fd, reply_fd, memory_fd, parent_pid, memory_bytes = numbers
    limits = ImageLimitsConfig(max_bytes=max_bytes, max_pixels=max_pixels)
    run_child(request_fd, reply_fd, memory_fd, parent_pid=parent_pid, memory_bytes=memory_bytes, limits=limits)


if __name__ == "__main__":
    main(sys.argv[1:])
