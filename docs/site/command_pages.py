"""A page for each command: every flag with its help text and its default, read from the class whose fields they are."""

import ast
import dataclasses
import html
import inspect
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from faceattr.commands.table import COMMANDS, Command
from faceattr.config.flags import flag_kind

_TYPES = {str: "STR", int: "INT", float: "FLOAT", Path: "PATH"}
_CODE = re.compile(r"`([^`]+)`")


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: the field, `storage.deadline-s`; the anchor of the flag on its page.
        words: how it is written, all names of it, or the value's name if the command takes it without a flag.
        values: what stands behind it; empty for a flag that is a yes or a no.
        default: its value if it is not given; empty if there is none, and None if it must be given.
        help: the docstring of the field.
    """

    name: str
    words: tuple[str, ...]
    values: str
    default: str | None
    help: str

    @property
    def is_positional(self) -> bool:
        """Whether the value stands without a flag."""
        return not self.words[0].startswith("--")


@dataclasses.dataclass(frozen=True)
class Section:
    """The flags of one class: the command's own (title empty), or a group such as `storage`."""

    title: str
    help: str
    flags: tuple[Flag, ...]


def page_of(command: Command) -> str:
    """Returns the name of a command's page, below commands/."""
    return f"{'-'.join(command.words)}.md"


def list_sections(config_class: type, defaults: Any = None, prefix: str = "") -> Iterator[Section]:
    """Yields the flags of a config class, then the flags of each group in it."""
    hints = typing.get_type_hints(config_class, include_extras=True)
    texts = read_field_docstrings(config_class)
    flags: list[Any] = []
    groups: list[Section] = []
    for field in dataclasses.fields(config_class):
        name, hint = f"{prefix}{field.name}".replace("_", "-"), hints[field.name]
        value = _default_of(field) if defaults is None else getattr(defaults, field.name)
        if dataclasses.is_dataclass(hint):
            groups += list_sections(typing.cast(type, hint), value, f"{name}.")
        else:
            flags.append(_describe_flag(name, hint, value, texts.get(field.name, "")))
    if flags:
        yield Section(prefix.removesuffix("."), inspect.getdoc(config_class) or "", tuple(flags))
    yield from groups


def read_field_docstrings(config_class: type) -> dict[str, str]:
    """Returns the text below each field of a class and of its bases."""
    found = {}
    for each in reversed(config_class.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    found[name] = inspect.cleandoc(words)
    return found


def write_page(command: Command) -> str:
    """Returns a command's page in Markdown."""
    config_class = command.resolve()
    sections = list(list_sections(config_class))
    words = f"faceattr {' '.join(command.words)}"
    own = sections[0].flags
    lines = [f"# {words}", ""]
    job = command.resolve_job()
    if job is not None:
        lines += [inspect.getdoc(sys.modules[job.__module__]) or "", ""]
        lines += [
            "`--config FILE` reads any of these flags from a YAML file; flags on the command line win over it.",
            "",
        ]
    else:
        needed = [f"{each.words[0]} {each.values}".strip() for each in own if each.default is None]
        needed.sort(key=lambda usage: usage.startswith("--"))
        lines += [as_html(sections[0].help), "", "```text", " ".join([words, *needed, "[flags]"]), "```", ""]
    presets = command.resolve_presets()
    if presets is not None:
        names = ", ".join(f"`{path.stem}`" for path in sorted(presets.glob("*.yaml")))
        lines += [f"Presets: {names}. `--config` wins over a preset.", ""]
    for section in sections:
        lines += [f"## --{section.title}" if section.title else "## Flags", ""]
        lines += [as_html(section.help), ""] if section.title else []
        lines += ['<div class="flags"><table>', *map(_row, section.flags), "</table></div>", ""]
    return "\n".join(lines)


def write_index() -> str:
    """Returns the page that lists all commands, in Markdown."""
    rows = [f"| [`faceattr {' '.join(each.words)}`]({page_of(each)}) | {each.help} |" for each in COMMANDS]
    text = (
        "Every command with every flag, its help text and its default, as `--help` prints them. "
        "Exit codes: 0 done, 1 the run failed, 2 the command is wrong, 130 stopped."
    )
    return "\n".join(["# Commands", "", text, "", "| command | what it does |", "| --- | --- |", *rows, ""])


def as_html(text: str) -> str:
    """Returns a help text as HTML, with `code` as such."""
    return _CODE.sub(r"<code>\1</code>", html.escape(text, quote=False))


def _row(flag: Flag) -> str:
    words = ", ".join(f"<code>{each}</code>" for each in flag.words)
    values = f" <span>{html.escape(flag.values, quote=False)}</span>" if flag.values else ""
    match flag.default:
        case None:
            default = "required"
        case "":
            default = "not set by default"
        case value:
            default = f"default: <code>{html.escape(value, quote=False)}</code>"
    return (
        f'<tr id="{flag.name}"><td>{words}{values}<br><small>{default}</small></td><td>{as_html(flag.help)}</td></tr>'
    )


def _default_of(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _describe_flag(name: str, hint: Any, value: Any, text: str) -> Flag:
    kind = flag_kind(hint)
    extras: tuple[Any, ...] = ()
    if typing.get_origin(hint) is typing.Annotated:
        hint, *rest = typing.get_args(hint)
        extras = tuple(rest)
    aliases = [alias for extra in extras for alias in getattr(extra, "aliases", None) or ()]
    group, dot, last = name.rpartition(".")
    words = (f"--{name}", *aliases)
    if kind == "yes or no":
        words = (f"--{name}", f"--{group}{dot}no-{last}")
    elif any(_is_positional(extra) for extra in extras):
        words = (f"{last.upper()} ..." if kind == "several values" else last.upper(),)
    values = describe_values(hint) if words[0].startswith("--") and kind != "yes or no" else ""
    default = None if value is dataclasses.MISSING else describe_default(value)
    return Flag(name=name, words=words, values=values, default=default, help=text)


def _is_positional(extra: Any) -> bool:
    # tyro's markers are objects that show their name alone.
    return "Positional" in repr(extra)


def describe_values(hint: Any) -> str:
    """Returns what stands behind a flag with this type hint: `INT`, `STR ...`, or the allowed words, `on|off`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return describe_values(arguments[0])
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe_values(each) for each in arguments if each is not type(None)))
    if origin in (dict, Mapping):
        return f"{describe_values(arguments[0])} {describe_values(arguments[1])} ..."
    if origin is not None:  # tuples: of any length, or of this one
        parts = [describe_values(each) for each in arguments if each is not Ellipsis]
        return " ".join([*parts, "..."] if Ellipsis in arguments or origin is not tuple else parts)
    if hint not in _TYPES:
        raise TypeError(f"no word for values of {hint!r} is known; add one to _TYPES in docs/site/command_pages.py")
    return _TYPES[hint]


def describe_default(value: Any) -> str:
    """Returns a default as it is written on the command line, a yes or no as `on` or `off`; empty if there is none."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {each}" for key, each in value.items())
    if isinstance(value, tuple | list):
        return " ".join(map(describe_default, value))
    return "" if value is None else str(value)
