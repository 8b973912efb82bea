"""What a schedule disturbs: how a job is started, how far it is, and what its result has to be."""

import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceattr.data.runs.status import read_run_status
from faceattr.data.runs.version import RUN_KEY
from faceattr.data.stores.store import Store
from tests.faults.schedules.world import World

RAY_PROCESSES = ("raylet/raylet", "gcs_server")
# The store is given up after this time, so that a schedule ends; then the same command starts again.
_PATIENCE_S = 12.0


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """A job.

    Attributes:
        name: of the job.
        processes: patterns of command lines of what it consists of.
        num_parts: shards, epochs or trials of a whole run, which are done one after the other.
    """

    name: str
    processes: tuple[str, ...]
    num_parts: int

    @abstractmethod
    def prepare(self, world: World) -> None:
        """Writes what the job reads."""

    @abstractmethod
    def command(self, world: World, output: str, *, is_begun: bool) -> list[str]:
        """The words behind `python`, of the first driver or of one that goes on."""

    @abstractmethod
    def count_done(self, store: Store) -> int:
        """How many parts are done."""

    @abstractmethod
    def is_of_driver(self, key: str) -> bool:
        """Whether a file is written by the driver alone, and not by what it may have left running."""

    @abstractmethod
    def read(self, store: Store) -> Any:
        """What an undisturbed run has, for comparison."""

    @abstractmethod
    def find_fault(self, store: Store, expected: Any) -> str | None:
        """What is wrong with a finished run."""

    def start(self, world: World, output: str, *, store: Store) -> "subprocess.Popen[bytes]":
        """Starts a driver, whose log goes on where the last one's ended."""
        command = [sys.executable, *self.command(world, output, is_begun=has_begun(store)), "--ray.no-dashboard"]
        command += ["--ray.object-store-mb", "150", "--storage.deadline-s", str(_PATIENCE_S)]
        with self.log_path(world, output).open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    @staticmethod
    def log_path(world: World, output: str) -> Path:
        """Where the drivers of a run write."""
        return world.folder / f"{output.rpartition('/')[2]}.log"


def has_begun(store: Store) -> bool:
    """Whether a driver has written what the run is."""
    return any(True for _ in store.list(RUN_KEY))


def is_finished(store: Store) -> bool:
    """Whether a reader would take the run as whole."""
    return has_begun(store) and read_run_status(store).state == "published"
