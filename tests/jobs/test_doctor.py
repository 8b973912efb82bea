"""`faceattr doctor`: what it finds, and what it advises."""

import dataclasses

import pytest

from faceattr.cli import main as faceattr
from faceattr.config import StorageConfig
from faceattr.data.stores.local import LocalStore
from faceattr.jobs.doctor.findings import Finding, describe_findings
from faceattr.jobs.doctor.machine import MachineFacts, judge_machine, read_machine
from faceattr.jobs.doctor.stores import judge_clock, judge_images, judge_output

GIB = 2**30
FINE = MachineFacts(
    host="node1",
    python="3.11.7",
    packages={"torch": "2.13.1", "numpy": "2.3.0"},
    required=("torch<2.14,>=2.13", "numpy>=2.2"),
    num_cpus=16,
    memory_bytes=64 * GIB,
    shm_bytes=32 * GIB,
    disk_free_bytes=100 * GIB,
    temporary="/scratch",
    num_gpu_devices=2,
    gpus=("H200", "H200"),
    cuda="13.0",
)


def problems(facts):
    return {each.subject: f"{each.found}. {each.remedy}" for each in judge_machine(facts) if each.remedy}


def test_a_machine_with_all_that_is_needed():
    assert problems(FINE) == {}
    assert problems(dataclasses.replace(FINE, num_gpu_devices=0, gpus=(), cuda=None)) == {}
    assert problems(dataclasses.replace(FINE, packages={}, required=())) == {}


@pytest.mark.parametrize(
    ("changes", "subject", "shown"),
    [
        ({"packages": {"torch": "2.12.0", "numpy": "2.3.0"}}, "packages", "torch <2.14,>=2.13 (found 2.12.0)"),
        ({"packages": {"torch": "2.13.0", "numpy": None}}, "packages", "numpy >=2.2 (found none)"),
        ({"gpus": ()}, "gpu", "2 in this machine, but torch can use none. Is the driver new enough for CUDA 13.0"),
        ({"gpus": (), "cuda": None}, "gpu", "built without CUDA"),
        ({"memory_bytes": 4 * GIB, "shm_bytes": 2 * GIB}, "machine", "At least 6.0 GiB"),
        ({"shm_bytes": GIB // 16}, "shm", "shared memory of 0.1 GiB. Ray wants 19.2 GiB"),
        ({"shm_bytes": None}, "shm", "no /dev/shm"),
        ({"disk_free_bytes": GIB}, "disk", "/scratch has 1.0 GiB free. Ray needs about 5.0 GiB"),
    ],
)
def test_each_problem_has_its_remedy(changes, subject, shown):
    found = problems(dataclasses.replace(FINE, **changes))
    assert list(found) == [subject]
    assert shown in found[subject]


def test_this_machine_can_be_read():
    facts = read_machine()
    assert facts.packages["torch"] is not None
    assert facts.memory_bytes > GIB
    assert "packages" not in problems(facts)


def test_a_store_that_works(s3_uri):
    found = list(judge_output(f"{s3_uri}/run", StorageConfig()))
    assert [each.subject for each in found] == ["output", "ranges", "clock"]
    assert [each.remedy for each in found] == [None] * 3


def test_a_store_that_does_not_answer(s3_uri):
    nobody = StorageConfig(endpoint_url="http://127.0.0.1:9", deadline_s=0.1)
    for (found,) in (list(judge_output(f"{s3_uri}/run", nobody)), list(judge_images(s3_uri, nobody))):
        assert found.remedy is not None
        assert s3_uri in found.found


def test_images_are_read(tmp_path):
    (found,) = judge_images(str(tmp_path), StorageConfig())
    assert "is empty" in found.found
    (tmp_path / "a.jpg").write_bytes(b"123")
    (found,) = judge_images(str(tmp_path), StorageConfig())
    assert found == Finding(subject="images", found=f"{tmp_path} is listed and read: a.jpg, 3 bytes")


@pytest.mark.parametrize(("skew_s", "is_fine"), [(0, True), (5, True), (-3_600, False), (3_600, False)])
def test_clocks_that_differ(tmp_path, skew_s, is_fine):
    class Skewed(LocalStore):
        def list(self, prefix=""):
            for entry in super().list(prefix):
                yield dataclasses.replace(entry, modified_s=1_000.0 + skew_s)

    store = Skewed(tmp_path)
    store.put("probe", b"1")
    found = judge_clock(store, "probe", 999.5, 1_000.0)
    assert (found.remedy is None) == is_fine
    assert f"is {abs(skew_s)} s from" in found.found


def test_the_command_says_what_is_wrong_by_its_exit_code(tmp_path, capsys):
    assert faceattr(["doctor", "--no-cluster", "--output", str(tmp_path / "run")]) == 0
    assert "ok       output" in capsys.readouterr().out
    assert list((tmp_path / "run").iterdir()) == []
    assert faceattr(["doctor", "--no-cluster", "--images", str(tmp_path / "run")]) == 1
    assert "problem  images" in capsys.readouterr().out


def test_findings_are_counted():
    text = describe_findings([Finding(subject="a", found="x"), Finding(subject="b", found="y", remedy="Do z")])
    assert text == "ok       a         x\nproblem  b         y. Do z\n1 problem"
