"""The timeline of a command: when each of its processes had its imports, its model and its first block.

With FACEATTR_LOG_LEVEL=DEBUG a command logs it when it ends, one line for each milestone, in seconds after its start.
Times are wall clock, so a machine whose clock is wrong has wrong ones.
"""

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, order=True)
class Milestone:
    """Something that a process does once on its way to its first result.

    Attributes:
        reached_s: when it was reached, in seconds since 1970.
        process: what the process does: `driver`, `reader`, `decoder`, `actor`, ...
        name: what was reached: `imports done`, `model loaded`, `first block`, ...
        pid: the process.
    """

    reached_s: float = field(default_factory=time.time)
    process: str
    name: str
    pid: int = field(default_factory=os.getpid)


_reached: list[Milestone] = []


def note(name: str, *, process: str = "driver") -> None:
    """Notes that this process has reached a milestone."""
    _reached.append(Milestone(process=process, name=name))


def add(milestones: Iterable[Milestone]) -> None:
    """Adds milestones of other processes."""
    _reached.extend(milestones)


def is_logged() -> bool:
    """Whether `log_timeline` would log anything, so that milestones of other processes are worth asking for."""
    return logger.isEnabledFor(logging.DEBUG)


def log_timeline() -> None:
    """Logs all milestones in the order of time, in seconds after the start of this process, and forgets them."""
    if is_logged():
        started_s = _read_start()
        for each in sorted(_reached):
            logger.debug(
                "timeline seconds=%.2f process=%s pid=%d reached=%s",
                each.reached_s - started_s,
                each.process.replace(" ", "_"),
                each.pid,
                each.name.replace(" ", "_"),
            )
    _reached.clear()


def _read_start() -> float:
    """Returns when this process was started, before its interpreter ran a line, in seconds since 1970."""
    # proc(5), /proc/pid/stat: field 22 is the start in clock ticks since boot; field 2, in brackets, may hold spaces.
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s
