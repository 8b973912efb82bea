"""The rules that keep the house findable and readable: folders, names, mentions of files, words. Who may import whom is
in test_architecture.py."""

import ast
import importlib.util
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from faceattr.attributes import RESERVED_NAMES, Attribute, AttributeKind, AttributeSet
from faceattr.config import PackConfig
from faceattr.config.evaluate import Criterion, CriterionName
from faceattr.data.label_columns import HEAD_FIELDS, label_schema
from faceattr.data.packed.plan import ROW_FIELDS
from faceattr.data.packed.reader import IMAGE_FIELDS
from faceattr.data.runs.plan import PLAN_COLUMNS
from faceattr.data.sources.registry import SOURCE_KINDS
from faceattr.evaluation.thresholds import criterion_value

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


def names_of(path: Path) -> list[str]:
    """Every name that a module defines at its top, as often as it is defined."""
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return names


def public_names(path: Path) -> set[str]:
    return {name for name in names_of(path) if not name.startswith("_")}


def test_no_module_defines_a_name_twice():
    for path in SOURCES:
        names = names_of(path)
        assert sorted(names) == sorted(set(names)), path


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


# Rule 10: archaic or private words that a reader has to guess. Plain ones are: again, also, is, close, the ranks of,
# resumed, and the names of the replaced systems.
# Two words may be separated by the end of a line, a comment's sign, or the quotes of a string that continues.
_GAP = r"""(?:\s|#|f?["'])+"""
_PRIVATE_WORDS = re.compile(
    r"\b(?:"
    r"anew|besides|lie|lies|lying"
    rf"|put(?:s|ting)?{_GAP}down"
    rf"|those{_GAP}of"
    rf"|gone{_GAP}on{_GAP}with"
    rf"|from{_GAP}where{_GAP}on"
    rf"|seeds?{_GAP}00\d*"
    r")\b",
    re.IGNORECASE,
)
_WRITTEN = {".py", ".md", ".html", ".yaml", ".sh", ".css", ".js", ".ipynb"}


def private_words(text: str) -> list[tuple[int, str]]:
    """(line, words) of all that a text should say in plain English."""
    return [
        (text.count("\n", 0, match.start()) + 1, re.sub(_GAP, " ", match[0])) for match in _PRIVATE_WORDS.finditer(text)
    ]


def test_texts_have_no_private_words():
    # Not tests/: its stored samples stay as an earlier version wrote them.
    folders = [path for folder in (*FOLDERS, "examples", "docs") for path in (ROOT / folder).rglob("*")]
    paths = {path for path in folders if path.suffix in _WRITTEN}
    paths |= {path for pattern in ("*.md", ".github/**/*.md") for path in ROOT.glob(pattern)}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {words}"
        for path in sorted(paths)
        for line, words in private_words(path.read_text())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Begun anew,\nand besides", [(1, "anew"), (2, "besides")]),
        ("where the images lie; it lies there, lying", [(1, "lie"), (1, "lies"), (1, "lying")]),
        ("all\nis put\n    down", [(2, "put down")]),
        ("    # less than those\n    # of the run", [(1, "those of")]),
        ('    "gone on "\n    f"with {it}"', [(1, "gone on with")]),
        ("from where on; seed 003 and seeds 000", [(1, "from where on"), (1, "seed 003"), (1, "seeds 000")]),
        ("It relies on beside, --seed 0, applies, belief, put it down, those that", []),
    ],
)
def test_the_rule_sees_private_words(text, expected):
    assert private_words(text) == expected


# The files that may ask for the kind of an attribute, as the docstring of faceattr/attributes.py lists them.
KIND_FILES = {
    "attributes.py",
    "data/label_columns.py",
    "models/heads.py",
    "training/targets.py",
    "training/losses/attribute_loss.py",
    "training/metrics.py",
    "evaluation/scores.py",
    "evaluation/decisions.py",
    "evaluation/figures.py",
    "reports/plots/evaluation.py",
}
# Files in which `.kind` is that of something else: file -> of what. Words for kinds of attribute are refused there too.
OTHER_KINDS = {
    "audit/scored_table.py": "a run",
    "commands/erasure/delete_rows.py": "a run",
    "commands/status.py": "a run",
    "data/exports.py": "a run",
    "data/joined/runs.py": "a run",
    "data/packed/reader.py": "a run",
    "data/runs/run_attributes.py": "a run",
    "data/runs/begin.py": "a run",
    "data/sources/gather.py": "a run",
    "data/sources/layouts/published.py": "a run",
    "data/sources/layouts/table.py": "a column of a foreign table, as the user's entry has it; one is `score`",
    "data/runs/changes/update.py": "an input of images",
    "jobs/cluster/metrics.py": "a gauge",
    "jobs/images/predict.py": "a run",
    "jobs/images/rethreshold.py": "a run",
    "jobs/images/run.py": "an input of images",
    "jobs/search/job.py": "a run",
    "jobs/train/run.py": "a run",
    "training/lineage/origin.py": "a run",
    "watch/metrics.py": "a gauge",
}
KINDS = set(get_args(AttributeKind))


def is_kind(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "kind"


def names_kinds(node: ast.AST, *, with_age: bool) -> bool:
    """Whether a word for a kind stands in the node; `age` is the name of a column as well."""
    words = {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}
    return bool(words & (KINDS if with_age else KINDS - {"age"}))


def questions_of_kind(tree: ast.AST) -> list[tuple[int, bool]]:
    """(line, whether it names kinds of attributes) of all that decides by a kind.

    These are a comparison, a `match`, a choice out of a table, and a table by kind. That two kinds are the same may be
    asked anywhere.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            of_kind = any(map(is_kind, sides))
            plain = [side for side in sides if isinstance(side, ast.Constant | ast.Tuple | ast.Set)]
            words = any(names_kinds(side, with_age=of_kind) for side in plain)
            if words or (of_kind and not all(map(is_kind, sides))):
                found.append((node.lineno, words))
        elif isinstance(node, ast.Match):
            words = any(names_kinds(case.pattern, with_age=is_kind(node.subject)) for case in node.cases)
            if words or is_kind(node.subject):
                found.append((node.lineno, words))
        elif isinstance(node, ast.Subscript) and is_kind(node.slice):
            found.append((node.lineno, False))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            if any(map(is_kind, node.args)):
                found.append((node.lineno, False))
        elif isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if len(keys & KINDS) > 1:
                found.append((node.lineno, True))
    return found


def test_few_files_ask_for_the_kind_of_an_attribute():
    wrong, asking, others = [], set(), set()
    for path in SOURCES:
        name = str(path.relative_to(PACKAGE))
        for line, words in questions_of_kind(ast.parse(path.read_text())):
            if name in KIND_FILES:
                asking.add(name)
            elif name in OTHER_KINDS and not words:
                others.add(name)
            else:
                wrong.append(f"faceattr/{name}:{line}")
    assert wrong == [], "use a property of Attribute, or a function of one of KIND_FILES"
    assert asking == KIND_FILES
    assert others == set(OTHER_KINDS)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("attribute.kind == 'age'", [(1, True)]),
        ("record.kind == 'label'", [(1, False)]),
        ("attribute.kind in ('binary', 'multiclass')", [(1, True)]),
        ("kind != 'identity'", [(1, True)]),
        ("'binary' == kind", [(1, True)]),
        ("match kind:\n    case 'binary' | 'age': pass", [(1, True)]),
        ("match attribute.kind:\n    case _: pass", [(1, False)]),
        ("METRICS[attribute.kind]", [(1, False)]),
        ("METRICS.get(judged.attribute.kind, 'score')", [(1, False)]),
        ("METRICS = {'binary': 1, 'age': 2}", [(1, True)]),
        ("theirs.kind != ours.kind", []),
        ("{'kind': attribute.kind}", []),
        ("names['identity'], 'age' in names, {'age': 1, 'gender': 2}", []),
    ],
)
def test_the_rule_sees_a_question(code, expected):
    assert questions_of_kind(ast.parse(code)) == expected


def test_the_list_of_how_to_add_a_kind_is_that_of_the_rule():
    text = ast.get_docstring(ast.parse((PACKAGE / "attributes.py").read_text()))
    assert set(re.findall(r"^    ([\w/]+\.py) +\w", text, re.MULTILINE)) == KIND_FILES


def test_every_public_function_is_used_outside_the_tests():
    code = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    words = Counter(word for path in code for word in re.findall(r"\w+", path.read_text()))
    defined = [(path, name) for path in SOURCES for name in public_names(path) if not name.isupper()]
    assert [f"{path.relative_to(ROOT)}: {name}" for path, name in defined if words[name] < 2] == []


def test_flags_offer_what_the_tables_hold():
    offered = get_type_hints(PackConfig)["source"]
    assert {*get_args(get_args(offered)[0]), "labels"} == set(SOURCE_KINDS)
    criteria = get_args(CriterionName)
    labels, scores = np.array([0, 1, 1]), np.array([0.2, 0.4, 0.9])
    for name in criteria:
        assert np.isfinite(criterion_value(labels, scores, 0.5, Criterion(name=name))), name


def test_no_attribute_can_take_the_name_of_a_column():
    schema = label_schema(AttributeSet(attributes=(Attribute(name="zz"),)))
    columns = {field.name for field in (*schema, *HEAD_FIELDS, *IMAGE_FIELDS, *PLAN_COLUMNS, *ROW_FIELDS)}
    own = {name for name in columns if not name.startswith("zz")}
    assert own - RESERVED_NAMES == set()
