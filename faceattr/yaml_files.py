"""Reads YAML written by users: repeated keys and invalid content are refused in one line that names the file's line.

PyYAML silently keeps the last of two equal keys, follows nesting until the interpreter's stack ends, and expands a few
lines of aliases to gigabytes.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from faceattr.errors import ConfigError

MAX_DEPTH = 32
MAX_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """YAML 1.1, except that 1e-4 is a number; a scalar that its type cannot represent is an error of the file."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:  # such as a 13th month, or a number of 5,000 digits
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


class YamlProblemError(Exception):
    """A text that is not valid or not usable YAML.

    Attributes:
        line: line of the text, from 1; None if it is unknown.
        problem: the problem, in one line.
    """

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem

    @classmethod
    def of(cls, error: yaml.YAMLError) -> "YamlProblemError":
        """Converts PyYAML's error, whose own text has many lines."""
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        return cls(mark.line + 1 if mark else None, f"not valid YAML: {' '.join(str(problem).split())}")


def load_yaml(text: str, where: str, *, typed: bool = True) -> dict[str, Any]:
    """Returns the mapping that a YAML text contains.

    Args:
        text: the content of a file.
        where: name of the file in messages.
        typed: whether scalars become numbers, booleans and null; else every scalar stays text.

    Raises:
        ConfigError: the text is not a mapping, or has a key twice; the error names the line.
    """
    loader = _Loader if typed else yaml.BaseLoader
    try:
        if compose_yaml(text) is None:
            raise ConfigError(f"{where}: expected 'key: value' lines")
        try:
            content = yaml.load(text, Loader=loader)  # noqa: S506 - both build only plain values
        except yaml.YAMLError as error:
            raise YamlProblemError.of(error) from error
    except YamlProblemError as error:
        line = f"line {error.line}: " if error.line else ""
        raise ConfigError(f"{where}: {line}{error.problem}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected 'key: value' lines")
    return {str(key): value for key, value in content.items()}


def compose_yaml(text: str, *, unique_keys: bool = True) -> yaml.Node | None:
    """Returns the node tree of a YAML text, or None if the text is empty.

    Args:
        text: the content of a file.
        unique_keys: whether repeated keys are refused; else the caller does that.

    Raises:
        YamlProblemError: the text is not valid, too deep, larger than MAX_NODES with aliases expanded, or, with
            `unique_keys`, has a key twice in one mapping.
    """
    try:
        _check_depth(text)
        root = yaml.compose(text)
    except yaml.YAMLError as error:
        raise YamlProblemError.of(error) from error
    if root is not None:
        _count_nodes(root, {}, frozenset())
        if unique_keys:
            _check_keys(root, "")
    return root


def _check_depth(text: str) -> None:
    # Events, since parsing them needs no recursion; nodes and values do.
    depth = 0
    for event in yaml.parse(text):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlProblemError(_line(event), f"nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _count_nodes(node: yaml.Node, known: dict[int, int], above: frozenset[int]) -> int:
    """Returns the number of nodes in a subtree, with every alias expanded."""
    if id(node) in above:
        raise YamlProblemError(_line(node), "an alias refers to a value that contains it")
    if id(node) not in known:
        inside = above | {id(node)}
        known[id(node)] = 1 + sum(_count_nodes(child, known, inside) for _, child in _children(node))
        if known[id(node)] > MAX_NODES:
            raise YamlProblemError(_line(node), f"more than {MAX_NODES:,} values with its aliases expanded")
    return known[id(node)]


def _check_keys(node: yaml.Node, dotted: str) -> None:
    first: dict[str, int] = {}
    for name, child in _children(node):
        if name is not None and name.value in first:
            raise YamlProblemError(
                _line(name),
                f"the key {f'{dotted}{name.value}'!r} stands twice, first in line {first[name.value]}; remove one",
            )
        if name is not None:
            first[name.value] = _line(name)
        _check_keys(child, dotted if name is None else f"{dotted}{name.value}.")


def _children(node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode | None, yaml.Node]]:
    """Yields (key, value) of a mapping, with None for a key that is not a scalar, and (None, entry) of a list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key if isinstance(key, yaml.ScalarNode) else None, value
            if not isinstance(key, yaml.ScalarNode):
                yield None, key
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield None, entry


def _line(part: yaml.Node | yaml.Event) -> int:
    mark: Any = part.start_mark  # PyYAML and libyaml have different classes for it
    return int(mark.line) + 1
