"""The rules of the house, read from the source: who may import whom, how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "faceattr"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted([*(ROOT / "pipelines").glob("*.py"), *(ROOT / "tune").glob("*.py")])

# A room may import the rooms below it, itself, and the third-party packages that it names.
ROOMS_BELOW = {
    "version": [],
    "errors": [],
    "interrupt": [],
    "timeline": [],
    "logs": ["errors"],
    "yaml_files": ["errors"],
    "devices": ["errors"],
    "precision": ["config"],
    "attributes": ["errors"],
    "watch": ["errors"],
    "config": ["errors", "attributes"],
    "data": ["errors", "attributes", "config"],
    "layers": ["data", "errors", "config", "yaml_files"],
    "planning": ["data", "errors"],
    "vqa": ["data", "errors", "attributes", "config", "devices", "yaml_files"],
    "models": ["data", "errors", "attributes", "config"],
    "training": ["models", "data", "errors", "attributes", "config", "precision"],
    "evaluation": ["training", "data", "errors", "attributes", "config"],
    "audit": [
        "inference",
        "evaluation",
        "training",
        "models",
        "data",
        "errors",
        "attributes",
        "config",
        "devices",
        "yaml_files",
    ],
    "search": ["evaluation", "training", "models", "data", "errors", "attributes", "config", "logs", "yaml_files"],
    "reports": ["audit", "search", "evaluation", "training", "vqa", "data", "errors", "attributes", "config"],
    "inference": ["evaluation", "training", "models", "data", "errors", "attributes", "config", "devices"],
    "demo": ["audit", "reports", "vqa", "data", "errors", "logs"],
    "jobs": [
        "audit",
        "reports",
        "search",
        "inference",
        "evaluation",
        "training",
        "models",
        "vqa",
        "watch",
        "data",
        "errors",
        "attributes",
        "config",
        "devices",
        "precision",
        "interrupt",
        "logs",
        "timeline",
        "yaml_files",
    ],
    "commands": [
        "demo",
        "audit",
        "reports",
        "planning",
        "search",
        "inference",
        "evaluation",
        "models",
        "data",
        "errors",
        "attributes",
        "config",
        "interrupt",
        "logs",
    ],
    "guard": ["data", "errors", "interrupt", "logs"],
    "cli": ["commands", "errors", "config", "data", "guard", "interrupt", "layers", "logs", "timeline", "version"],
    "__main__": ["cli", "interrupt"],
}
# Room -> third-party packages that it may import; every entry point imports these rooms, so they load at once.
LIGHT_ROOMS = {"errors": set(), "logs": set(), "attributes": set(), "config": {"yaml"}, "precision": set()}
FORBIDDEN = {
    "data": {"torch", "torchvision", "transformers", "timm", "ray"},
    **{
        room: {"ray"}
        for room in (
            "watch",
            "planning",
            "vqa",
            "models",
            "training",
            "evaluation",
            "audit",
            "search",
            "reports",
            "devices",
            "inference",
            "demo",
            "commands",
            "cli",
        )
    },
}
# Where a heavy package is imported in the function that needs it: most processes never do, or only after the images.
LATE_IMPORTS_ALLOWED = {
    "faceattr/__init__.py",
    "faceattr/commands/audit/issues.py",
    "faceattr/commands/predict.py",
    "faceattr/data/hub/commits.py",
    "faceattr/data/stores/arrow.py",
    "faceattr/jobs/images/label.py",
    "faceattr/jobs/images/predict.py",
    "faceattr/jobs/images/rethreshold.py",
    "faceattr/jobs/search/finish.py",
    "faceattr/jobs/steps/serve.py",
    "faceattr/jobs/trackers/tracked.py",
    "faceattr/jobs/train/report.py",
    "faceattr/jobs/train/worker.py",
    "faceattr/models/backbones/class_token.py",
    "faceattr/models/backbones/names.py",
    "faceattr/training/assembly.py",
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """(dotted module, whether it stands inside a function) of every import."""
    tree = ast.parse(path.read_text())
    late = {id(node) for each in ast.walk(tree) if isinstance(each, ast.FunctionDef) for node in ast.walk(each)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append((node.module or "", id(node) in late))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_table(path):
    room = room_of(path)
    if room == "__init__":
        return
    assert room in ROOMS_BELOW, f"{room} is not in the table of rooms"
    for module, late in imports_of(path):
        top = module.partition(".")[0]
        if top == "faceattr":
            target = module.split(".")[1] if "." in module else "version"
            assert target in {*ROOMS_BELOW[room], room, "version"}, f"{path}: {room} may not import {module}"
        elif room in LIGHT_ROOMS:
            assert top in {*sys.stdlib_module_names, *LIGHT_ROOMS[room]}, f"{path}: {room} may not import {module}"
        assert top not in FORBIDDEN.get(room, set()), f"{path}: {room} may not import {module}"
        assert not late or str(path.relative_to(ROOT)) in LATE_IMPORTS_ALLOWED, f"{path}: late import of {module}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_import_the_package_and_never_each_other(path):
    names = {script.stem for script in SCRIPTS}
    assert not names & {module.partition(".")[0] for module, _ in imports_of(path)}
    assert path.stat().st_mode & 0o111, f"{path.name} is not executable"
    assert path.read_text().startswith("#!/usr/bin/env python\n")


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_named_for_what_they_hold(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in {"utils", "common", "helpers", "misc"}
    assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"


def test_every_folder_of_the_package_is_a_package():
    folders = {path.parent for path in SOURCES}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert [path for path in (ROOT / "pipelines", ROOT / "tune") if (path / "__init__.py").exists()] == []


def test_importing_the_package_loads_neither_torch_nor_ray():
    code = "import sys, faceattr; sys.exit(any(name in sys.modules for name in ('torch', 'ray', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_versions_that_close_known_holes():
    from importlib.metadata import version

    def numbers(name):
        return tuple(int(part) for part in version(name).split("+")[0].split(".")[:2])

    # Pillow before 13 has heap overflows in its JPEG decoder; torch before 2.6 ran code from `weights_only` files; Ray
    # before 2.52 had an open job API. See the README, Security.
    assert numbers("pillow") >= (13, 0)
    assert numbers("torch") >= (2, 10)
    assert numbers("ray") >= (2, 55)


def test_the_repository_holds_no_registry_address_and_no_path_of_a_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    forbidden = ("pypi" + ".org", "pythonhosted" + ".org", "registry." + "npmjs", "/work" + "/main", "/root" + "/")
    for name in listed:
        path = ROOT / name
        if path.suffix in {".safetensors", ".png", ".jpg"} or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        assert [word for word in forbidden if word in text] == [], name
