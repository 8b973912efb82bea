"""Peak memory of a label run, at 2,000 and at 20,000 images."""

import tempfile
import threading
from pathlib import Path

from tests.benchmarks.label_runs import SMALL, finish, make_images, start_label
from tests.checkpoints import save_random_checkpoint


class MemoryPeak(threading.Thread):
    """Peak of the proportional memory (shared pages counted once) of a process and all below it, and of the driver."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.total_bytes, self.driver_bytes, self.done = pid, 0, 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.3):
            sizes = {pid: _pss(pid) for pid in _tree(self.pid)}
            self.total_bytes = max(self.total_bytes, sum(sizes.values()))
            self.driver_bytes = max(self.driver_bytes, sizes.get(self.pid, 0))


def _tree(pid: int) -> set[int]:
    found, pending = set(), [pid]
    while pending:
        each = pending.pop()
        found.add(each)
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                pending += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def bench_memory() -> None:
    """Prints the peaks at 2,000 and at 20,000 images."""
    peaks = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = save_random_checkpoint(folder / "model", **SMALL)
        for count in (2_000, 20_000):
            images = make_images(folder / f"images{count}", count, size_px=112)
            output = folder / f"run{count}"
            process = start_label(images, output, model, "--ray.object-store-mb", "300", "--workers.block-rows", "128")
            peak = MemoryPeak(process.pid)
            peak.start()
            finish(process, output)
            peak.done.set()
            peaks[count] = peak.total_bytes
            print(
                f"{count:6} images: {peak.total_bytes / 1e6:7.0f} MB in all, driver {peak.driver_bytes / 1e6:.0f} MB",
                flush=True,
            )
    print(f"growth from 2,000 to 20,000 images: {peaks[20_000] / peaks[2_000] - 1:+.1%}")
