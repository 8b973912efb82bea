"""The timeline of a command: what it logs, in what order, in seconds after what."""

import os
import re
import subprocess
import sys
import time

import pytest

# Another process's milestone at a time that the test knows; this process's own is reached later, and noted first.
CODE = """
import sys
from faceattr import timeline
from faceattr.logs import configure_logging
configure_logging()
timeline.note("imports done")
timeline.add([timeline.Milestone(reached_s=float(sys.argv[1]), process="train worker", name="first step", pid=7)])
timeline.log_timeline()
timeline.log_timeline()
"""


def run(level: str) -> tuple[list[str], float, float]:
    """The lines that a fresh process logs; when it was started at the earliest, and how much later at the latest."""
    before = time.time()
    command = [sys.executable, "-c", CODE, str(before + 0.001)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"FACEATTR_LOG_LEVEL": level}
    ) as process:
        started_within = time.time() - before
        _, logged = process.communicate()
    assert process.returncode == 0, logged
    return logged.splitlines(), before, started_within


def test_milestones_are_logged_once_in_the_order_of_time_since_the_process_was_started():
    lines, before, started_within = run("DEBUG")
    found = [
        re.search(r"timeline seconds=(\S+) process=(\S+) pid=(\d+) reached=(\S+)$", line).groups() for line in lines
    ]
    assert [each[1::2] for each in found] == [("train_worker", "first_step"), ("driver", "imports_done")]
    assert found[0][2] == "7"
    seconds = [float(each[0]) for each in found]
    # The kernel counts a process's start in hundredths of a second; the log rounds to hundredths too.
    assert -started_within - 0.03 <= seconds[0] - 0.001 <= 0.03
    assert 0 < seconds[1] <= time.time() - before + 0.03


@pytest.mark.parametrize("level", ["INFO", "WARNING"])
def test_nothing_is_logged_above_debug(level):
    assert run(level)[0] == []
