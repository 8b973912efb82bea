"""Space files of a search: a space, or a ConfigError."""

from collections.abc import Iterable

from faceattr.errors import ConfigError
from faceattr.search.space import parse_space
from faceattr.yaml_files import load_yaml
from tests.documents import ROOT
from tests.fuzz.target import Target

_WORDS = (
    b"choice:",
    b"uniform:",
    b"loguniform:",
    b"randint:",
    b"quniform:",
    b"[",
    b"]",
    b"{",
    b"}",
    b"1e-3",
    b"null",
    b"true",
    b".nan",
)


def run(data: bytes) -> None:
    """Reads a space, and its plain form again."""
    try:
        found = parse_space(load_yaml(data.decode("utf-8", "replace"), "a file"), "a file")
    except ConfigError as error:
        assert str(error).startswith("a file")  # noqa: PT017
    else:
        assert parse_space(found.to_json(), "again").to_json() == found.to_json()


def seeds() -> Iterable[bytes]:
    """The built-in spaces, and small ones."""
    for path in sorted((ROOT / "faceattr" / "search" / "spaces").glob("*.yaml")):
        yield path.read_bytes()
    yield b"optim.lr: {loguniform: [1e-4, 1e-2]}\nfreeze.depth: {choice: [all, 2]}\nloss.main: hat\n"
    yield b"freeze.depth: {choice: [1, 2]}\noptim.lr: {uniform: [0.5, 1.0], when: {freeze.depth: [3]}}\n"  # never so


TARGET = Target(run=run, seeds=seeds, words=_WORDS)
