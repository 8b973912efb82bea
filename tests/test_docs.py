"""The documents are true: commands parse with the real flags, links and paths lead somewhere, names exist.

The commands of the README are run, too: see `test_readme.py`; the commands of cluster/README.md by `tests/cluster/`.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from faceattr.cli import parse_config
from faceattr.commands.table import COMMANDS, find_command
from faceattr.config.flags import list_flags
from faceattr.data.images.decode import REASONS
from faceattr.data.label_columns import label_schema
from faceattr.training.presets import PRESETS_FOLDER
from faceattr.vqa.question_files import builtin_sets, load_question_set, parse_question_set
from tests.documents import ROOT, SCRIPTS, blocks, commands, read

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / folder / "README.md" for folder in ("pipelines", "tune", "cluster")),
    ]
)
# Its commands start clusters; tests/cluster/ runs what can be run.
OURS = [page for page in PAGES if page.parent.name != "cluster"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
each_of_ours = pytest.mark.parametrize("page", OURS, ids=lambda page: str(page.relative_to(ROOT)))


def parse_script(words: list[str]) -> None:
    """Parses `pipelines/train.py ...`; a --config file that the reader has is left out."""
    script, *arguments = words
    presets = PRESETS_FOLDER if script == "pipelines/train.py" else None
    parse_config(SCRIPTS[script], without_file(arguments), presets=presets)


def without_file(words: list[str]) -> list[str]:
    """The words without a --config file, and with what it would hold; and without the format of the log."""
    if "--log-format" in words:
        place = words.index("--log-format")
        words = [*words[:place], *words[place + 2 :]]
    if "--config" not in words:
        return words
    place = words.index("--config")
    return [*words[:place], "--data", "./packed", *words[place + 2 :]]


def check_command(words: list[str]) -> None:
    """Fails unless a command is one of ours with flags that it has."""
    match words:
        case ["make", target]:
            assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE), target
        case [".", ".venv/bin/activate"] | ["pre-commit", "install"]:
            pass
        case ["python", script, *arguments] if script.startswith("tests/benchmarks/"):
            source = read(script)
            flags = [word for word in arguments if word.startswith("--")]
            assert [flag for flag in flags if f'"{flag}"' not in source] == [], words
        case ["python", script, *arguments]:
            parse_script([script, *arguments])
        case ["ray", "job", "submit", "--working-dir", ".", "--", "python", *script]:
            parse_script(script)
        case ["faceattr", *arguments]:
            command = find_command(arguments)
            assert command is not None, words
            rest = without_file(arguments[len(command.words) :])
            parse_config(command.resolve(), rest, presets=command.resolve_presets())
        case _:
            raise AssertionError(f"a command of no known kind: {words}")


def defined_in(module: Path) -> set[str]:
    """Names at the top of a module."""
    found = set()
    for node in ast.parse(module.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=value)
            ):
                found.add(name)
                if name == "__all__" and value is not None:
                    found |= set(ast.literal_eval(value))
    return found


def is_defined(dotted: str) -> bool:
    """Whether `faceattr.data.runs` or `faceattr.data.runs.open_run` exists."""
    path = ROOT.joinpath(*dotted.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    parent, name = path.parent, path.name
    module = parent / "__init__.py" if parent.is_dir() else parent.with_suffix(".py")
    return module.is_file() and name in defined_in(module)


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@each_of_ours
def test_commands_have_the_flags_that_they_are_shown_with(page):
    for words in commands(page.read_text()):
        check_command(words)


def named_flags(text: str) -> Iterator[str]:
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)):
        yield from re.findall(r"(?<![\w-])--[a-z][a-z.-]*[a-z](?![\w.*-])", span)


@each_of_ours
def test_flags_that_are_named_exist(page):
    known = {"--config", "--help", "--log-format", "--version"}
    for config in [*SCRIPTS.values(), *(command.resolve() for command in COMMANDS)]:
        for flag, _, kind in list_flags(config):
            group, dot, last = flag.rpartition(".")
            known |= {f"--{flag}", f"--{group}{dot}no-{last}"} if kind == "yes or no" else {f"--{flag}"}
    assert sorted(set(named_flags(page.read_text())) - known) == []


@each_page
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if file.parent == ROOT / "docs" / "commands":  # made when the site is built; test_site.py follows them
            continue
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@each_page
def test_paths_and_dotted_names_exist(page):
    text = page.read_text()
    for path in re.findall(r"(?<![\w/.-])(?:faceattr|tests|pipelines|tune|examples)/[\w/.-]*\w/?", text):
        assert "NEW" in path or (ROOT / path).exists() or (ROOT / path.rstrip(".")).exists(), path
    for dotted in re.findall(r"(?<![\w/.-])faceattr(?:\.\w+)+", text):
        assert is_defined(dotted), dotted


@each_of_ours
def test_python_blocks_import_what_is_there(page):
    for block in blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert [each.name for each in node.names if not is_defined(f"{node.module}.{each.name}")] == []


@each_page
def test_texts_are_ascii(page):
    assert page.read_text().isascii()


def test_make_targets_that_are_named_exist():
    makefile = read("Makefile")
    for page in OURS:
        for target in set(re.findall(r"`make ([a-z-]+)", page.read_text())):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: {target}"


def test_the_table_of_pipelines_has_each_script():
    rows = re.findall(r"^\| `(\w+\.py)` \|", (ROOT / "pipelines" / "README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "pipelines").glob("*.py"))


def test_the_tests_that_promises_name_exist():
    promised = re.findall(r"`(tests/[a-z_/0-9]+\.py)::(test_[a-z_0-9]+)`", read("docs/guarantees.md"))
    assert len(promised) > 10
    for path, name in promised:
        assert name in defined_in(ROOT / path), f"{path}::{name}"


def test_the_table_of_question_sets_is_the_packages():
    section = read("pipelines/README.md").split("### Questions")[1].split("###")[0]
    table = dict(re.findall(r"^\| `([a-z0-9_]+)` \| (.+?) \|$", section, re.MULTILINE))
    assert set(table) == set(builtin_sets())
    for name in builtin_sets():
        for attribute in load_question_set(name).attributes.names:
            assert attribute in table[name]


def test_the_example_of_a_question_file_is_read():
    (text,) = blocks(read("docs/formats.md"), "yaml")
    found = parse_question_set(text, name="example", where="docs/formats.md")
    assert found.attributes.names == ("sunglasses", "hair_color")
    assert found.asked[0].abstain == (0.5, 0.7)


def test_the_columns_and_reasons_of_the_label_table_are_all_there():
    section = read("docs/formats.md").split("## The label table")[1].split("\n## ")[0]
    attributes = load_question_set("clear_face").attributes
    asked = {name for each in attributes.names for name in (each, f"{each}_score", f"{each}_mass")}
    for column in set(label_schema(attributes).names) - asked - {rule.name for rule in attributes.derived}:
        assert f"`{column}`" in section, column
    assert set(re.findall(r"^\| `([a-z_]+)` \|", section.split("Reasons in")[1], re.MULTILINE)) == set(REASONS)


def test_every_preset_of_a_replaced_system_is_in_the_chapter_on_migration():
    names = {path.stem for path in PRESETS_FOLDER.glob("*.yaml")} - {"demo"}
    assert names == set(re.findall(r"^\| \[.+?\| `([a-z0-9_]+)` \| `--source", read("docs/migration.md"), re.MULTILINE))


def test_the_workflow_and_the_templates_are_yaml_and_call_the_scripts_of_ci():
    for path in (ROOT / ".github").rglob("*.yml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
    assert "run: bash .ci/run" in read(".github/workflows/ci.yml")
