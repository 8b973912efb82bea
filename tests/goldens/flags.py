"""The flags of every script and command, with their types and defaults, read from the help that users see."""

import contextlib
import io
import re
from collections.abc import Callable

from faceattr.cli import main as faceattr
from faceattr.commands.table import find_command
from tests.conftest import environment
from tests.goldens.bucket import ROOT, script

# So wide a help has one column of boxes.
_COLUMNS = "100"
_COMMAND = re.compile(r"^  faceattr ((?:\S+ )+) ", re.MULTILINE)
# A flag, or the name of an argument, stands behind the border and a space; its text stands further to the right.
_OPTION = re.compile(r"(\S(?:.*?\S)?)(?:  +(.*))?")
_DEFAULT = re.compile(r"\((required|default: [^()]*(?:\([^()]*\)[^()]*)*)\)$")


def collect_flags() -> dict[str, dict[str, str]]:
    """Script or command -> flag with its type, as the help writes it -> `required` or `default: value`."""
    scripts = sorted(
        path.relative_to(ROOT).as_posix() for folder in ("pipelines", "tune") for path in (ROOT / folder).glob("*.py")
    )
    found = {name: read_flags(_help(script(name), [])) for name in scripts}
    # The jobs among the commands have the flags of their scripts.
    commands = [words for match in _COMMAND.findall(_help(faceattr, [])) if not is_job(words := match.split())]
    return found | {f"faceattr {' '.join(words)}": read_flags(_help(faceattr, words)) for words in commands}


def is_job(words: list[str]) -> bool:
    command = find_command(words)
    assert command is not None
    return command.job is not None


def read_flags(text: str) -> dict[str, str]:
    """Flag with its type -> `required` or `default: value`, from a help in one column."""
    found: dict[str, str] = {}
    name, words = "", ""
    for line in [*text.splitlines(), ""]:
        inner = (
            line[2:].rstrip(" │") if line[:2] in ("  ", "│ ") else ""
        )  # where there is no UTF-8, the border is blank
        if inner.startswith(" "):
            words += f" {inner.strip()}"
            continue
        default = _DEFAULT.search(words)
        if default is not None:
            found[name] = default[1]
        match = _OPTION.fullmatch(inner)
        name, words = (match[1], match[2] or "") if match else ("", "")
    return found


def _help(main: Callable[[list[str]], int], words: list[str]) -> str:
    shown = io.StringIO()
    with environment({"COLUMNS": _COLUMNS}), contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return shown.getvalue()
