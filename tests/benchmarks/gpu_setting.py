"""What the sections of `bench_gpu.py` share: sizes, the device, the random model, and the clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from faceattr.vqa.questions import VqaQuestion

# In the words of `tests/checkpoints.py`.
QUESTIONS = (
    "is the person wearing a hat?",
    "is the person wearing glasses?",
    "does the man have a beard?",
    "is there a hat on the person?",
    "are there glasses on the face?",
    "does the person have hair?",
    "is the person very young?",
    "is the hair black and red?",
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and at which size a section runs.

    Attributes:
        folder: for what it writes.
        small: tiny models and few images, so that a CPU gets through.
    """

    folder: Path
    small: bool

    @property
    def device(self) -> torch.device:
        """The GPU; with `small` a CPU will do."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def model(self) -> Path:
        """The random BLIP, which the first section writes."""
        return self.folder / "model"

    @property
    def size_px(self) -> int:
        """Side of BLIP's images."""
        return 32 if self.small else 384

    @property
    def seconds(self) -> float:
        """How long each figure is measured."""
        return 0.02 if self.small else 2.0

    def pick(self, full: int, small: int) -> int:
        """The first on a GPU, the second with `small`."""
        return small if self.small else full

    def images(self, count: int) -> np.ndarray:
        """Random pixels for BLIP: uint8 [count, S, S, 3]."""
        return np.random.default_rng(0).integers(0, 256, (count, self.size_px, self.size_px, 3), np.uint8)


def ask(count: int) -> list[VqaQuestion]:
    """The first questions of the list."""
    return [VqaQuestion(text, ("no", "yes")) for text in QUESTIONS[:count]]


def images_per_s(work: Callable[[], object], num_images: int, setting: Setting) -> float:
    """Images a second of a call that does `num_images`; the first call warms up."""
    finish = torch.cuda.synchronize if setting.device.type == "cuda" else lambda: None
    work()
    finish()
    started, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - started < setting.seconds:
        work()
        finish()
        count += 1
    return count * num_images / (time.perf_counter() - started)
