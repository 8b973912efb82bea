"""What Ray writes stays away from the user, and what it leaves behind is ended."""

import os
import subprocess
import sys
import time

import pytest

NATIVE = """
import io, logging, os, sys, warnings
import ray
from faceattr.jobs.cluster.quiet import hush_native, hush_python
from faceattr.logs import configure_logging
configure_logging()
ours = logging.getLogger("faceattr.jobs")
of_caller = io.StringIO()
logging.getLogger("ray").addHandler(logging.StreamHandler(of_caller))
hush_python()
with hush_native():
    os.write(2, b"core_worker.cc: native\\n")
    logging.getLogger("ray.train").error("of Ray Train")
    logging.getLogger("ray.data.dataset").warning("of Ray Data")
    ours.warning("of-ours")
    print("python", file=sys.stderr)
assert "of Ray Train" in of_caller.getvalue()
os.write(2, b"native-afterwards\\n")
print("python-afterwards", file=sys.stderr)
"""


@pytest.mark.parametrize("level", ["INFO", pytest.param("DEBUG", marks=pytest.mark.long)])
def test_only_our_lines_reach_standard_error_unless_debugging(level, tmp_path):
    env = os.environ | {"FACEATTR_LOG_LEVEL": level, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", NATIVE], stderr=subprocess.PIPE, text=True, check=True, env=env)
    of_ray = [line for line in ended.stderr.splitlines() if "core_worker" in line or "of Ray" in line]
    others = [line.split(" ", 3)[-1] for line in ended.stderr.splitlines() if line not in of_ray]
    assert len(of_ray) == (3 if level == "DEBUG" else 0)
    assert others == ["of-ours", "python", "native-afterwards", "python-afterwards"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_death_in_native_code_shows_the_stacks_and_keeps_what_was_written(tmp_path):
    code = NATIVE.replace('print("python", file=sys.stderr)', "os.abort()")
    ended = subprocess.run(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert ended.returncode < 0
    assert "Fatal Python error: Aborted" in ended.stderr
    (kept,) = tmp_path.glob("faceattr-native-*.log")
    assert "core_worker.cc: native" in kept.read_text()


TOLD = """
import ray
from ray._private.utils import push_error_to_driver
from faceattr.config.shared import RayConfig
from faceattr.jobs.cluster.session import ray_session
from faceattr.logs import configure_logging
configure_logging()
with ray_session(RayConfig(dashboard=False, object_store_mb=100, num_cpus=1)):
    worker = ray._private.worker.global_worker
    own = type(worker.gcs_error_subscriber)(address=worker.gcs_client.address)
    own.subscribe()
    for text in ("first of the raylet", "second of the raylet"):  # the second has come: the first was handled
        push_error_to_driver(worker, "kind", text)
        while text not in own.poll()[1]["error_message"]:
            pass
    own.close()
"""


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_what_ray_tells_drivers_is_not_printed_unless_debugging(level):
    env = os.environ | {"FACEATTR_LOG_LEVEL": level}
    ended = subprocess.run([sys.executable, "-c", TOLD], stdout=subprocess.PIPE, text=True, check=True, env=env)
    assert ("first of the raylet" in ended.stdout) == (level == "DEBUG")
    assert level == "DEBUG" or ended.stdout == ""


LEFT = """
import subprocess, sys
from faceattr.interrupt import end_at_once
from faceattr.jobs.cluster.machines.leftovers import ended_with_session, untag
with ended_with_session():
    apart = {"start_new_session": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(["sleep", "60"], **apart)
    untag()
    own = subprocess.Popen(["sleep", "60"], **apart)
    print(child.pid, own.pid, flush=True)
    if sys.argv[1] == "at once":
        end_at_once()
"""


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", ["to its end", "at once"])
def test_what_a_session_started_ends_with_it(how):
    ended = subprocess.run([sys.executable, "-c", LEFT, how], capture_output=True, text=True, check=False)
    child, own = map(int, ended.stdout.split())
    try:
        assert ended.returncode == (130 if how == "at once" else 0)
        deadline = time.monotonic() + 5
        while is_running(child) and time.monotonic() < deadline:
            pass
        assert not is_running(child)
        assert is_running(own)
    finally:
        os.kill(own, 9)
