"""Isolated decoding: untrusted images are decoded in a child process that may crash.

A crash, a hang or a memory bomb inside an image library costs the child and one image, not the worker with its batch,
its thread pool and its CUDA context. The child is a fresh interpreter (never a fork of a process with threads), limited
in memory and in time per image, does not inherit the parent's environment, and dies with its parent. A lost child is
replaced and the image is tried once more, so that an image is given up only after it failed twice; answers that the
child had finished are kept.

A wake-up costs about 50 us per batch, a quarter of the time for decoding a 224 px JPEG: prefer `decode_batch` to
`decode`.
"""

import atexit
import fcntl
import itertools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import Pixels, find_size_fault
from faceattr.data.images.decoder_child import DONE, EXIT_OUT_OF_MEMORY, MAX_BATCH, READY, Decoded, SharedExchange
from faceattr.errors import ConfigError, ImageError, RunError

DEFAULT_LIMITS = ImageLimitsConfig()
DEFAULT_DEADLINE_S = 30.0
DEFAULT_MEMORY_BYTES = 2 * 2**30

_START_DEADLINE_S = 120.0
# If a batch used more bytes than this, its pages are returned to the system instead of kept for the next batch.
_KEPT_BYTES = 64 * 2**20
# Images are untrusted; the decoder gets what it needs to run, and no credentials.
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


class IsolatedDecoder:
    """Decodes images in a child process, which is started on first use and replaced when it is lost.

    Calls from several threads wait for each other. Not usable in a process forked from the one that created it;
    `process_decoder` returns a new one there.

    Args:
        limits: bounds for one image.
        deadline_s: seconds for one image, greater than 0.
        memory_bytes: limit on the child's address space, which starts at about 200 MiB; the memory shared with this
            process is not counted. Pillow needs up to 16 bytes per pixel at `limits.max_pixels`.
        command: command of the child; tests replace it.
    """

    def __init__(
        self,
        limits: ImageLimitsConfig = DEFAULT_LIMITS,
        *,
        deadline_s: float = DEFAULT_DEADLINE_S,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        command: Sequence[str] = (sys.executable, "-P", "-m", "faceattr.data.images.decoder_child"),
    ) -> None:
        if deadline_s <= 0 or memory_bytes <= 0:
            raise ConfigError(f"{deadline_s=} and {memory_bytes=}: both must be greater than 0")
        self._limits = limits
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._command = tuple(command)
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()
        self._child: _Child | None = None
        # A child is killed when the thread that started it ends, since Linux counts that thread as its parent: a thread
        # that only borrows the decoder would take the child with it, in the middle of another one's image.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="decoder-starter")
        self._memory_fd = os.memfd_create("faceattr-decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._memory_fd, SharedExchange.compute_size(limits))
        # If the child could truncate the file, this process would be killed at its next access.
        fcntl.fcntl(self._memory_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._exchange = SharedExchange(self._memory_fd, limits)

    @property
    def child_pid(self) -> int | None:
        """Process id of the current child; None before the first image and after `close`."""
        return None if self._child is None else self._child.process.pid

    def decode(self, data: bytes) -> Pixels:
        """Decodes one image as `faceattr.data.images.decode.decode_image` does: uint8 [H, W, 3].

        Raises:
            ImageError: the image cannot be used; also `decoder_crashed` and `decoder_timeout`.
            RunError: the child cannot be started, which says nothing about the image.
        """
        (decoded,) = self.decode_batch([data])
        if isinstance(decoded, ImageError):
            raise decoded
        return decoded

    def decode_batch(self, images: Sequence[bytes]) -> list[Decoded]:
        """Decodes any number of images, with one wake-up of the child per 127 of them.

        Args:
            images: encoded bytes.

        Returns:
            For each image, in order, its pixels, uint8 [H, W, 3], or the ImageError that `decode` would raise.

        Raises:
            RunError: the child cannot be started.
        """
        return list(self.decode_each(images))

    def decode_each(self, images: Sequence[bytes]) -> Iterator[Decoded]:
        """As `decode_batch`, one at a time: memory contains the pixels of a few small images, or of one large image."""
        num_done = 0
        has_failed = False  # whether a child was lost on the next image
        while num_done < len(images):
            rest = images[num_done : num_done + MAX_BATCH]
            size_fault = find_size_fault(rest[0], self._limits)
            if size_fault is not None:
                num_done += 1
                yield size_fault
                continue
            fitting = itertools.takewhile(lambda image: find_size_fault(image, self._limits) is None, rest)
            answers, failure = self._exchange_batch(list(fitting))
            if failure is not None and has_failed and not answers:
                answers, failure = [failure], None
            has_failed = failure is not None
            num_done += len(answers)
            yield from _let_go(answers)

    def close(self) -> None:
        """Ends the child and frees all memory; the decoder cannot be used again. May be called twice."""
        if os.getpid() != self._owner_pid:
            return  # a forked copy: the original still uses the child
        with self._lock:
            self._stop_child()
            self._starter.shutdown(wait=False)
            if self._memory_fd >= 0:
                self._exchange.close()
                os.close(self._memory_fd)
                self._memory_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange_batch(self, images: Sequence[bytes]) -> tuple[list[Decoded], ImageError | None]:
        """Returns the answers to the first images, and how the child was lost on the next one, if it was."""
        if os.getpid() != self._owner_pid:
            raise RuntimeError(f"this decoder belongs to process {self._owner_pid}; call process_decoder() in this one")
        with self._lock:
            return self._exchange_locked(images)

    def _exchange_locked(self, images: Sequence[bytes]) -> tuple[list[Decoded], ImageError | None]:
        child = self._get_child()
        try:
            count = self._exchange.write_batch(images)
            failure = self._wait_for_answers(child, count)
        except BaseException:
            # An interrupt or a cancelled task: the child's late answer would be read as the answer to the next batch.
            self._stop_child()
            raise
        if failure is not None:
            self._stop_child()
        num_done, _ = self._exchange.read_state()
        answers = self._exchange.read_answers(min(num_done, count))
        if failure is None and not 0 < len(answers) == num_done <= count:
            self._stop_child()
            failure = ImageError("decoder_crashed", "the decoder process gave invalid answers, twice")
        if failure is not None or self._exchange.num_used_bytes > _KEPT_BYTES:
            self._exchange.release_pages()
        return answers, failure

    def _wait_for_answers(self, child: "_Child", count: int) -> ImageError | None:
        latest_s = time.monotonic() + count * self._deadline_s
        reply = child.send(count)
        while reply is None:
            _, begun_s = self._exchange.read_state()
            left_s = min(latest_s, begun_s + self._deadline_s) - time.monotonic()
            if left_s <= 0:
                return ImageError("decoder_timeout", f"not decoded within {self._deadline_s:g} s, twice")
            reply = child.receive(left_s)
        if reply == DONE:
            return None
        return ImageError("decoder_crashed", f"the decoder process {self._describe_end(child)}, twice")

    def _describe_end(self, child: "_Child") -> str:
        status = child.stop()
        if status == EXIT_OUT_OF_MEMORY:
            return f"ran out of its {self._memory_bytes // 2**20} MiB of memory"
        return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

    def _get_child(self) -> "_Child":
        # A child that died between batches, killed by the system, is no image's fault.
        if self._child is not None and self._child.process.poll() is not None:
            self._stop_child()
        if self._memory_fd < 0:
            raise RuntimeError("this decoder is closed")
        if self._child is None:
            self._child = self._start_child()
        return self._child

    def _start_child(self) -> "_Child":
        sizes = (self._memory_bytes, self._limits.max_bytes, self._limits.max_pixels)
        starting = self._starter.submit(_Child, self._command, self._memory_fd, (self._owner_pid, *sizes))
        try:
            child = starting.result()
        except OSError as error:
            raise RunError(f"the image decoder {self._command[0]} cannot be started: {error}") from error
        except BaseException:  # an interrupt: nobody will have the child
            starting.add_done_callback(_stop_unclaimed)
            raise
        try:
            reply = child.receive(_START_DEADLINE_S)
        except BaseException:
            child.stop()
            raise
        if reply != READY:
            end = "did not answer" if reply is None else self._describe_end(child)
            child.stop()
            raise RunError(f"the image decoder {end} before it was ready; see standard error. {self._command=}")
        return child

    def _stop_child(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


def _stop_unclaimed(starting: "Future[_Child]") -> None:
    if starting.exception() is None:
        starting.result().stop()


def _let_go(answers: list[Decoded]) -> Iterator[Decoded]:
    """Yields the answers; none is referenced here once the next one is requested."""
    answers.reverse()
    while answers:
        yield answers.pop()


class _Child:
    """A running child, and this process's ends of its two pipes."""

    def __init__(self, command: Sequence[str], memory_fd: int, numbers: Sequence[int]) -> None:
        request_read, self._request_fd = os.pipe()
        self._reply_fd, reply_write = os.pipe()
        try:
            # No preexec_fn: it makes subprocess fork, which is unsafe in a process with threads and a GPU.
            self.process = subprocess.Popen(
                [*command, *map(str, (request_read, reply_write, memory_fd, *numbers))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(request_read, reply_write, memory_fd),
                env=_build_environment(),
            )
        except BaseException:
            self._close_pipes()
            raise
        finally:
            os.close(request_read)
            os.close(reply_write)
        self._poller = select.poll()
        self._poller.register(self._reply_fd, select.POLLIN)

    def send(self, count: int) -> bytes | None:
        """Sends the number of images in the batch; returns an empty reply if the child has exited."""
        try:
            os.write(self._request_fd, bytes([count]))
        except BrokenPipeError:
            return b""
        return None

    def receive(self, timeout_s: float) -> bytes | None:
        """Reads one byte: b"" if the child exited, None on timeout."""
        if not self._poller.poll(1000 * timeout_s):
            return None
        return os.read(self._reply_fd, 1)

    def stop(self) -> int:
        """Kills the child if it still runs, and returns its exit status. May be called twice."""
        self._close_pipes()
        self.process.kill()
        return self.process.wait()

    def _close_pipes(self) -> None:
        for descriptor in (self._request_fd, self._reply_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self._request_fd = self._reply_fd = -1


def _build_environment() -> dict[str, str]:
    """Returns the child's environment: the parent's import path, which need not be in its own, and one thread."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    path = os.pathsep.join(dict.fromkeys([*map(os.path.abspath, sys.path), _PACKAGE_ROOT]))
    return {**kept, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


_process_decoders: dict[tuple[int, ImageLimitsConfig, float, int], IsolatedDecoder] = {}
_process_decoders_lock = threading.Lock()


def process_decoder(
    limits: ImageLimitsConfig = DEFAULT_LIMITS,
    *,
    deadline_s: float = DEFAULT_DEADLINE_S,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
) -> IsolatedDecoder:
    """Returns the decoder of this process for these limits, so that consecutive tasks share a child."""
    key = (os.getpid(), limits, deadline_s, memory_bytes)
    with _process_decoders_lock:
        if key not in _process_decoders:
            decoder = IsolatedDecoder(limits, deadline_s=deadline_s, memory_bytes=memory_bytes)
            _process_decoders[key] = decoder
            atexit.register(decoder.close)
        return _process_decoders[key]
