"""The rules that keep the house findable: folders, names, and mentions of files. Who may import whom is in
test_architecture.py."""

import ast
import importlib.util
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "faceattr"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MOST_MODULES = 12
# Names that every file of a family offers, so that a table can hold the files: layouts of labels, entry points, logs.
SHARED_NAMES = {"DEFAULT_ATTRIBUTES", "USUAL_FILES", "main", "logger"}
SHARED_PREFIXES = ("build_", "open_")
_FILE = re.compile(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.py)(?![\w/])")
_MODULE = re.compile(r"(?<![\w.])(faceattr(?:\.[a-z][a-z_0-9]*)+)")
FOLDERS = ("faceattr", "pipelines", "tune", "cluster")


def public_names(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def test_a_folder_holds_few_modules_and_no_family_without_a_folder():
    folders = defaultdict(list)
    for path in SOURCES:
        if path.stem not in {"__init__", "__main__"}:
            folders[path.parent].append(path.stem)
    for folder, modules in folders.items():
        assert len(modules) <= MOST_MODULES, f"{folder}: {len(modules)} modules; make a folder of some"
        first_words = [module.partition("_")[0] for module in modules]
        families = {word for word in first_words if first_words.count(word) > 2}
        assert families == set(), f"{folder}: three modules share the first word {families}; make a folder of them"


def test_no_public_name_is_defined_twice():
    homes = defaultdict(list)
    for path in SOURCES:
        for name in public_names(path):
            homes[name].append(str(path.relative_to(ROOT)))
    twice = {
        name: files
        for name, files in homes.items()
        if len(files) > 1 and name not in SHARED_NAMES and not name.startswith(SHARED_PREFIXES)
    }
    assert twice == {}


def exists(module: str) -> bool:
    """Whether a dotted name is a module, or a name inside one."""
    while module != "faceattr":
        try:
            if importlib.util.find_spec(module) is not None:
                return True
        except ModuleNotFoundError:
            pass
        parent, _, name = module.rpartition(".")
        stem = ROOT / Path(*parent.split("."))
        path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
        if path.is_file():
            return re.search(rf"\b{re.escape(name)}\b", path.read_text()) is not None
        module = parent
    return False


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_and_modules_that_a_text_names_exist(folder):
    known = [str(path.relative_to(ROOT)) for each in (*FOLDERS, "tests") for path in (ROOT / each).rglob("*.py")]
    wrong = []
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix not in {".py", ".md", ".html", ".yaml"}:
            continue
        text = path.read_text()
        for name in _FILE.findall(text):
            if not any(file == name or file.endswith(f"/{name}") for file in known):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
        for module in _MODULE.findall(text):
            if not exists(module):
                wrong.append(f"{path.relative_to(ROOT)}: {module}")
    assert wrong == []
