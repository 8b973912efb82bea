"""How busy the GPU is while something runs, as NVML says: by pynvml if it is there, else by nvidia-smi."""

import importlib.util
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

_INTERVAL_MS = 200


class BusyGpu:
    """Samples the use of the first GPU inside a `with` block; without a GPU there are no samples.

    Attributes:
        samples: (seconds since 1970, share of the last interval in which a kernel ran).
    """

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join()

    def mean(self, begin_s: float, end_s: float) -> float | None:
        """The mean share between two times in seconds since 1970; None without samples."""
        shares = [share for at_s, share in self.samples if begin_s <= at_s <= end_s]
        return sum(shares) / len(shares) if shares else None

    def _watch(self) -> None:
        for share in self._shares():
            self.samples.append((time.time(), share))

    def _shares(self) -> Iterator[float]:
        if shutil.which("nvidia-smi") is None:
            return
        if importlib.util.find_spec("pynvml") is not None:
            import pynvml

            pynvml.nvmlInit()
            gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
            while not self._done.wait(_INTERVAL_MS / 1e3):
                yield pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100
            return
        command = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        self._process = subprocess.Popen([*command, "-lms", str(_INTERVAL_MS)], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        yield from (float(line) / 100 for line in self._process.stdout)
