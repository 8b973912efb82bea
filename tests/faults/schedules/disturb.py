"""Carries out a schedule: starts drivers until the run is published, and disturbs them on the way."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faceattr.data.runs.lease import find_driver
from faceattr.data.stores.local import LocalStore
from tests.fakes.proxy import Fault
from tests.faults.schedules.draw import Disturbance
from tests.faults.schedules.job import Job, has_begun, is_finished
from tests.faults.schedules.world import World
from tests.processes import descendants

_MOST_S = 300.0
_MOST_DRIVERS = 8
_AWAIT_S = 30.0
_REFUSED = "another driver works on this run"
_OVERWRITES = "this store overwrites objects"


class BrokenRunError(Exception):
    """A run that did not end as it must."""


class Schedule:
    """One run under one schedule.

    Args:
        world: store, proxy and folders.
        job: what is run.
        prefix: of the run's folder in the bucket.
        expected: what an undisturbed run has.
        tell: gets what was done, with the second at which.
    """

    def __init__(self, world: World, job: Job, prefix: str, expected: Any, tell: Callable[[str], None]) -> None:
        self._world = world
        self._job = job
        self._prefix = prefix
        self._expected = expected
        self._output = world.uri(prefix)
        self._store = world.store(prefix)
        self._tell = tell
        self._driver: subprocess.Popen[bytes] | None = None
        self._num_drivers = 0

    def run(self, disturbances: list[Disturbance]) -> None:
        """Starts drivers until one ends well, with each disturbance at its moment. Raises BrokenRunError."""
        pending = list(disturbances)
        try:
            while True:
                self._start()
                while pending and self._wait_for_parts(pending[0].after):
                    self._disturb(pending.pop(0))
                code = self._wait()
                self._tell(f"driver ended with {code}")
                if code == 0 and is_finished(self._store):
                    if pending:  # what was to happen later than the end
                        self._tell(f"published before {len(pending)} disturbances")
                    return
                if code == 0:
                    raise BrokenRunError("the driver ended with 0, and nothing is published")
        finally:
            self._end()

    def _start(self) -> None:
        if self._num_drivers == _MOST_DRIVERS:
            raise BrokenRunError(f"not published by {_MOST_DRIVERS} drivers")
        self._num_drivers += 1
        # What is left of a bad network would otherwise stop every driver after the one that it was meant for.
        self._world.proxy.reset()
        self._driver = self._job.start(self._world, self._output, store=self._store)
        self._tell(f"driver {self._num_drivers} started, process {self._driver.pid}")

    def _wait_for_parts(self, count: int) -> bool:
        """Whether so many parts are done while the driver runs."""
        give_up_at = time.monotonic() + _MOST_S
        while self._driver.poll() is None:
            if time.monotonic() > give_up_at:
                raise BrokenRunError(f"no {count} parts after {_MOST_S:.0f} s")
            # The first ones happen at any moment of a driver's start, not all at its very beginning.
            if self._job.count_done(self._store) >= count and (count or has_begun(self._store)):
                return True
            time.sleep(0.05)
        return False

    def _wait(self) -> int:
        try:
            return self._driver.wait(_MOST_S)
        except subprocess.TimeoutExpired as error:
            raise BrokenRunError(f"the driver runs longer than {_MOST_S:.0f} s") from error

    def _disturb(self, what: Disturbance) -> None:
        self._tell(str(what))
        match what.kind:
            case "kill driver":
                self._driver.kill()
            case "terminate driver":
                self._driver.terminate()
            case "freeze driver, start another":
                self._start_another()
            case "kill process":
                self._kill_process(what.target)
            case "freeze store":
                self._world.server.freeze(what.seconds)
            case "kill store":
                self._world.server.kill()
                time.sleep(what.seconds)
                self._world.server.start()
            case "answers":
                kind, status, code = what.answer
                fault = Fault(
                    kind, what.method, path=what.target, times=what.times, status=status or 503, code=code or "X"
                )
                self._world.proxy.add(fault)
            case "no conditions":
                self._refuse_store()
            case "disk full":
                self._fill_disk()

    def _start_another(self) -> None:
        while (find_driver(self._store) or {}).get("pid") != self._driver.pid:  # before, another may work
            if self._driver.poll() is not None:
                return
            time.sleep(0.1)
        self._driver.send_signal(signal.SIGSTOP)  # so that it is alive, and still not done, when the second one looks
        try:
            second = self._job.start(self._world, self._output, store=self._store)
            code = second.wait(_MOST_S)
        finally:
            self._driver.send_signal(signal.SIGCONT)
        log = self._job.log_path(self._world, self._output).read_text()
        self._tell(f"the other driver ended with {code}")
        if code == 0 or (code == 1 and _REFUSED not in log and not self._world.proxy.pending):
            raise BrokenRunError(f"the other driver was not refused: it ended with {code}")

    def _kill_process(self, pattern: str) -> None:
        give_up_at = time.monotonic() + _AWAIT_S  # a task's process has its name only while the task runs
        while self._driver.poll() is None and time.monotonic() < give_up_at:
            matching = [pid for pid, command in descendants(self._driver.pid).items() if pattern in command]
            if matching:
                os.kill(matching[0], signal.SIGKILL)
                return
            time.sleep(0.01)
        self._tell(f"no process {pattern} from that moment on")

    def _refuse_store(self) -> None:
        """A driver that meets a store without conditional writes must not begin."""
        self._driver.kill()
        self._driver.wait()
        self._world.proxy.reset()
        before = self._frame()
        self._world.proxy.add(Fault("error", "PUT", path="_probe-", times=2, status=200, body=b""))
        driver = self._job.start(self._world, self._output, store=self._store)
        code = driver.wait(_MOST_S)
        self._tell(f"a driver at a store that ignores If-None-Match ended with {code}")
        log = self._job.log_path(self._world, self._output).read_text()
        if code == 0 or _OVERWRITES not in log or self._frame() != before:
            raise BrokenRunError(f"a store without conditional writes was not refused: {code}")

    def _frame(self) -> set[tuple[str, str | None]]:
        """All files that only a driver writes."""
        return {(each.key, each.etag) for each in self._store.list() if self._job.is_of_driver(each.key)}

    def _fill_disk(self) -> None:
        """A run of its own into a folder that is too small must stop, and go on when there is room."""
        self._driver.kill()
        self._driver.wait()
        with tempfile.TemporaryDirectory() as folder:
            mounted = (
                subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", folder], check=False).returncode == 0
            )
            if not mounted:
                self._tell("a small file system cannot be mounted here")
                return
            try:
                output = str(Path(folder) / "run")
                store = LocalStore(Path(output))
                code = self._job.start(self._world, output, store=store).wait(_MOST_S)
                self._tell(f"a driver with a full disk ended with {code}")
                if code == 0:
                    raise BrokenRunError("a run into 96 KiB ended well")
                subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
                code = self._job.start(self._world, output, store=store).wait(_MOST_S)
                self._tell(f"with room again it ended with {code}")
                if code != 0:
                    raise BrokenRunError("the run did not go on when there was room")
                fault = self._job.find_fault(store, self._expected)
                if fault is not None:
                    raise BrokenRunError(f"after a full disk: {fault}")
            finally:
                subprocess.run(["umount", folder], check=True)

    def _end(self) -> None:
        if self._driver is not None and self._driver.poll() is None:
            self._driver.kill()
            self._driver.wait()
        self._world.proxy.reset()
