"""The GPUs of a cluster, as nvidia-smi describes them, and the one precision of a run on them."""

import os

import pytest

from faceattr.jobs.cluster.machines.gpus import KnownGpu, ask_driver, choose_precision, read_gpus
from tests.conftest import environment

H200, A100, T4 = KnownGpu((9, 0), "NVIDIA H200"), KnownGpu((8, 0), "NVIDIA A100, 40GB"), KnownGpu((7, 5), "Tesla T4")


def test_the_answer_of_the_driver_is_read():
    assert read_gpus("NVIDIA H200, 9.0\nNVIDIA A100, 40GB, 8.0\nTesla T4, 7.5\n") == [H200, A100, T4]
    assert read_gpus("") == []


@pytest.mark.parametrize(
    ("choice", "gpus", "capability", "where"),
    [
        ("auto", None, None, "float32 on CPUs (auto)"),
        ("bfloat16", None, None, "bfloat16 on CPUs"),
        ("auto", [H200, H200], (9, 0), "bfloat16 on NVIDIA H200 (auto)"),
        ("auto", [H200, A100], (8, 0), "bfloat16 on NVIDIA A100, 40GB and NVIDIA H200 (auto)"),
        ("auto", [H200, T4], (7, 5), "float32 on Tesla T4 and NVIDIA H200 (auto)"),
        ("float32", [H200], (9, 0), "float32 on NVIDIA H200"),
        ("bfloat16", [], None, "bfloat16 on GPUs that nvidia-smi does not know"),
    ],
)
def test_the_oldest_gpu_decides_for_all(choice, gpus, capability, where, caplog):
    found = choose_precision(choice, gpus)
    assert (found.precision, found.capability, found.where) == (where.partition(" ")[0], capability, where)
    assert not caplog.records


def test_gpus_that_nobody_knows_are_told(caplog):
    assert choose_precision("auto", []).precision == "float32"
    assert "--precision auto is float32" in caplog.text


@pytest.mark.parametrize(("code", "expected"), [(0, "NVIDIA H200, 9.0\n"), (6, "")])
def test_the_driver_is_asked_by_its_own_command(tmp_path, code, expected):
    command = tmp_path / "nvidia-smi"
    command.write_text(f'#!/bin/sh\n[ "$1" = --query-gpu=name,compute_cap ] && echo "NVIDIA H200, 9.0"\nexit {code}\n')
    command.chmod(0o755)
    with environment({"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}):
        assert ask_driver() == expected


def test_a_machine_without_a_driver_has_no_answer(tmp_path):
    with environment({"PATH": str(tmp_path)}):
        assert ask_driver() == ""
