"""What is installed: no version with a known hole, a bill of materials, and a wheel that anyone can build again."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKED = {
    name: Version(version)
    for name, version in re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
}
FLOORS = yaml.safe_load((ROOT / "tests" / "floors.yaml").read_text())


@pytest.mark.parametrize("name", FLOORS)
def test_the_lock_holds_no_version_below_a_floor(name):
    floor, reason = FLOORS[name]
    assert name in LOCKED, f"{name} is no longer in the lock: take it out of tests/floors.yaml"
    assert LOCKED[name] >= Version(str(floor)), reason


def test_nothing_makes_every_import_of_ray_slow():
    """Ray imports jsonschema, which loads this parser of addresses where it is installed: 2.5 s in each process."""
    assert "rfc3987-syntax" not in LOCKED


def test_the_bill_of_materials_is_the_lock_and_the_same_twice(tmp_path):
    paths = [tmp_path / "one.json", tmp_path / "two.json"]
    for path in paths:
        # The environment is there, or this test would not run.
        command = ["make", "--old-file=.venv/.ready", "sbom", f"SBOM={path}"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    sbom = json.loads(paths[0].read_bytes())
    assert sbom["bomFormat"] == "CycloneDX"
    assert sbom["metadata"]["component"]["name"] == "faceattr"
    assert {part["name"].lower(): Version(part["version"]) for part in sbom["components"]} == LOCKED
    assert {part["name"] for part in sbom["components"] if not part["externalReferences"][0]["hashes"]} == set()
    assert not {"serialNumber", "timestamp"} & {*sbom, *sbom["metadata"]}


@pytest.mark.long
def test_two_builds_of_the_wheel_are_the_same_bytes(tmp_path):
    hashes = set()
    for name in ("one", "two"):
        tree = tmp_path / name
        shutil.copytree(ROOT / "faceattr", tree / "faceattr", ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, tree)
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tree / "out"), str(tree)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        (wheel,) = (tree / "out").glob("*.whl")
        hashes.add((wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()))
    assert len(hashes) == 1
