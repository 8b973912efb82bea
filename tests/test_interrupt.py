"""Ctrl-C while a command's packages are imported."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINE = "stopped by the user; whole shards and epochs stay (faceattr status RUN), the same command does the rest\n"
# A finder that stops in the middle of the imports. Ctrl-C arrives as in a terminal: what a shell starts in the
# background ignores it, and hands that on to whatever it starts.
CODE = """
import runpy, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "ray":
            print("importing", flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Stop())
name = sys.argv.pop(1)
if name.endswith(".py"):
    runpy.run_path(name, run_name="__main__")
else:
    runpy.run_module(name, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["pipelines/label.py"], LINE),
        (["tune/search.py"], LINE),
        (["faceattr", "train"], LINE),
        (["faceattr", "serve", "model"], "stopped by the user\n"),  # nothing of it could be gone on with
    ],
)
def test_ctrl_c_during_the_imports_is_one_line_and_exit_130(words, line):
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "importing\n"
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert process.returncode == 130
    assert error == line
    assert time.monotonic() - started < 5


# A job that Ctrl-C finds in three places, of which the second makes another error of it.
JOB = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import faceattr.interrupt
from faceattr.cli import run_job
from faceattr.config import LabelConfig
def wait(seconds=30):
    print("working", flush=True)
    time.sleep(seconds)
def job(config):
    how = sys.argv[1]
    if how == "swallowed":
        try:
            wait()
        except KeyboardInterrupt:
            raise RuntimeError("a library says something else")
    if how == "noisy":
        class Noisy:
            def __del__(self):
                raise ValueError("of a destructor")
        try:
            wait()
        finally:
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
            Noisy()
    try:
        wait()
    finally:
        wait()
sys.exit(run_job(LabelConfig, job, ["--images", "a", "--output", "b"], None))
"""


@pytest.mark.parametrize("how", ["swallowed", "noisy", "twice"])
def test_ctrl_c_in_a_job_is_one_line_and_exit_130_and_a_second_one_ends_at_once(how):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", JOB, how]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ) as process:
        assert process.stdout.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        if how == "twice":
            assert process.stdout.readline() == "working\n"  # it cleans up, for half a minute
            process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert (process.returncode, error) == (130, LINE)
    assert time.monotonic() - started < 5
