"""Isolated decoding: untrusted images are decoded in a child process that can be lost.

A crash, a hang or a memory bomb inside an image library costs the child and one image, not the worker with its batch,
its thread pool and its CUDA context. The child is a fresh interpreter (never a fork of a process with threads), limited
in memory and in time for each image, without the parent's environment, and dies with its parent. When it is lost it is
replaced and the image tried once more, so that only an image that fails twice is given up; what the child had finished
before is kept.

A wake-up costs about 50 us each batch, a quarter of decoding a 224 px JPEG: prefer `decode_batch` to `decode`.
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
# Beyond this many bytes of a batch, its pages go back to the system rather than stay for the next batch.
_KEPT_BYTES = 64 * 2**20
# Images come from strangers; the decoder gets what it needs to run, and no credentials.
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ")
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


class IsolatedDecoder:
    """Decodes images in a child process, which is started on first use and replaced when it is lost.

    Calls from several threads wait for each other. Not usable in a process forked from the one that made it; there,
    `process_decoder` gives another.

    Args:
        limits: bounds for one image.
        deadline_s: time for one image, greater than 0.
        memory_bytes: limit on the child's address space, which starts at about 200 MiB; the memory it shares with
            this process is not counted. Pillow needs up to 16 bytes a pixel at `limits.max_pixels`.
        command: the child; the tests put others in its place.
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
        self._memory_fd = os.memfd_create("faceattr-decoder", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._memory_fd, SharedExchange.compute_size(limits))
        # A child that shortened the file would kill this process at its next access.
        fcntl.fcntl(self._memory_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._exchange = SharedExchange(self._memory_fd, limits)

    @property
    def child_pid(self) -> int | None:
        """Process id of the present child; None before the first image and after `close`."""
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
        """Decodes any number of images at one wake-up for up to 127 of them.

        Args:
            images: encoded bytes.

        Returns:
            For each image, in order, its pixels, uint8 [H, W, 3], or the ImageError that `decode` would raise.

        Raises:
            RunError: the child cannot be started.
        """
        return list(self.decode_each(images))

    def decode_each(self, images: Sequence[bytes]) -> Iterator[Decoded]:
        """As `decode_batch`, one after the other: in memory are the pixels of a few small images, or of one large."""
        num_done = 0
        has_failed = False  # whether a child was lost on the image that is next
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
        """Ends the child and gives all memory back; the decoder cannot be used again. May be called twice."""
        if os.getpid() != self._owner_pid:
            return  # a forked copy, whose original still uses the child
        with self._lock:
            self._stop_child()
            if self._memory_fd >= 0:
                self._exchange.close()
                os.close(self._memory_fd)
                self._memory_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange_batch(self, images: Sequence[bytes]) -> tuple[list[Decoded], ImageError | None]:
        """Answers to the first images, and how the child was lost on the one behind them, if it was."""
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
            # An interrupt or a cancelled task: the child's answer would be taken for that to the next batch.
            self._stop_child()
            raise
        if failure is not None:
            self._stop_child()
        num_done, _ = self._exchange.read_state()
        answers = self._exchange.read_answers(min(num_done, count))
        if failure is None and not 0 < len(answers) == num_done <= count:
            self._stop_child()
            failure = ImageError("decoder_crashed", "the decoder process gave answers that make no sense, twice")
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
        # One that died between batches (the system's, or with the thread that started it) is no image's fault.
        if self._child is not None and self._child.process.poll() is not None:
            self._stop_child()
        if self._memory_fd < 0:
            raise RuntimeError("this decoder is closed")
        if self._child is None:
            self._child = self._start_child()
        return self._child

    def _start_child(self) -> "_Child":
        sizes = (self._memory_bytes, self._limits.max_bytes, self._limits.max_pixels)
        try:
            child = _Child(self._command, self._memory_fd, (self._owner_pid, *sizes))
        except OSError as error:
            raise RunError(f"the image decoder {self._command[0]} cannot be started: {error}") from error
        try:
            reply = child.receive(_START_DEADLINE_S)
        except BaseException:
            child.stop()
            raise
        if reply != READY:
            end = "said nothing" if reply is None else self._describe_end(child)
            child.stop()
            raise RunError(f"the image decoder {end} before it was ready; see standard error. {self._command=}")
        return child

    def _stop_child(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


def _let_go(answers: list[Decoded]) -> Iterator[Decoded]:
    """The answers, none of which is kept here once the next is asked for."""
    answers.reverse()
    while answers:
        yield answers.pop()


class _Child:
    """A running child and this process's ends of its two pipes."""

    def __init__(self, command: Sequence[str], memory_fd: int, numbers: Sequence[int]) -> None:
        request_read, self._request_fd = os.pipe()
        self._reply_fd, reply_write = os.pipe()
        try:
            # No preexec_fn: it would make subprocess fork, which a process with threads and a GPU may not survive.
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
        """Sends the number of images in the batch; an empty reply if there is nobody to read it."""
        try:
            os.write(self._request_fd, bytes([count]))
        except BrokenPipeError:
            return b""
        return None

    def receive(self, timeout_s: float) -> bytes | None:
        """One byte; none at all (b"") if the child has ended; None if it said nothing in that time."""
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
    """The child's variables: the parent's import path, which may not come from its environment, and one thread."""
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
    """The decoder of this process for these bounds, so that tasks that run one after another share a child."""
    key = (os.getpid(), limits, deadline_s, memory_bytes)
    with _process_decoders_lock:
        if key not in _process_decoders:
            decoder = IsolatedDecoder(limits, deadline_s=deadline_s, memory_bytes=memory_bytes)
            _process_decoders[key] = decoder
            atexit.register(decoder.close)
        return _process_decoders[key]
