"""YAML as users write it: refused in one line, with the line of the file, where it says something twice or nonsense.

PyYAML keeps the last of two equal keys without a word, follows nesting until the interpreter's stack ends, and lets a
few lines of aliases stand for gigabytes.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from faceattr.errors import ConfigError

MAX_DEPTH = 32
MAX_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-4 is a number, and a scalar that cannot be what it looks like is an error of the file."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:  # the 13th month, a number of 5,000 digits
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


class YamlProblemError(Exception):
    """A text that cannot be used.

    Attributes:
        line: of the text, from 1; None where it is not known.
        problem: in one line.
    """

    def __init__(self, line: int | None, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem

    @classmethod
    def of(cls, error: yaml.YAMLError) -> "YamlProblemError":
        """From PyYAML's error, whose own text has many lines."""
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        return cls(mark.line + 1 if mark else None, f"not valid YAML: {' '.join(str(problem).split())}")


def load_yaml(text: str, where: str, *, typed: bool = True) -> dict[str, Any]:
    """A mapping out of a YAML text.

    Args:
        text: the content of a file.
        where: names it in messages.
        typed: whether scalars become numbers, truth values and null; else every scalar stays text.

    Raises:
        ConfigError: the text is no mapping, or holds a key twice; it names the line.
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
    """The nodes of a YAML text, None if it is empty.

    Args:
        text: the content of a file.
        unique_keys: refuse keys that stand twice; else the caller does.

    Raises:
        YamlProblemError: it is not valid, too deep, larger than MAX_NODES once its aliases are followed, or holds a key
            twice in one mapping, where `unique_keys`.
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
    # Events, since they are read without recursion; nodes and values are not.
    depth = 0
    for event in yaml.parse(text):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlProblemError(_line(event), f"nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _count_nodes(node: yaml.Node, known: dict[int, int], above: frozenset[int]) -> int:
    """Nodes from one down, each as often as aliases name it."""
    if id(node) in above:
        raise YamlProblemError(_line(node), "an alias names what it stands in")
    if id(node) not in known:
        inside = above | {id(node)}
        known[id(node)] = 1 + sum(_count_nodes(child, known, inside) for _, child in _children(node))
        if known[id(node)] > MAX_NODES:
            raise YamlProblemError(_line(node), f"more than {MAX_NODES:,} values once its aliases are followed")
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
    """(key, value) of a mapping, where a key is plain; (None, entry) of a list."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key if isinstance(key, yaml.ScalarNode) else None, value
            if not isinstance(key, yaml.ScalarNode):
                yield None, key
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield None, entry


def _line(part: yaml.Node | yaml.Event) -> int:
    mark: Any = part.start_mark  # PyYAML's and libyaml's are two classes
    return int(mark.line) + 1
