"""Question files: a question set, or a ConfigError."""

from collections.abc import Iterable

from faceattr.errors import ConfigError
from faceattr.vqa.question_files import builtin_sets, load_question_set, parse_question_set
from tests.documents import ROOT
from tests.fuzz.target import Target

_WORDS = (
    *(b"attributes:", b"derived:", b"question:", b"questions:", b"answers:", b"prompts:", b"threshold:", b"abstain:"),
    *(
        b"kind:",
        b"not (",
        b" or ",
        b"[",
        b"]",
        b"{",
        b"}",
        b"&a",
        b"*a",
        b"<<:",
        b"!!",
        b"|\n",
        b">\n",
        b"? ",
        b"- ",
        b"\n  ",
    ),
)


def run(data: bytes) -> None:
    """Reads a question set, and its plain form again."""
    try:
        found = parse_question_set(data.decode("utf-8", "replace"), name="fuzz", where="a file")
    except ConfigError as error:
        assert str(error).startswith("a file")  # noqa: PT017
    else:
        assert found.attributes
        found.to_json()


def seeds() -> Iterable[bytes]:
    """The built-in sets, and small ones."""
    for name in builtin_sets():
        assert load_question_set(name)
        yield (ROOT / "faceattr" / "vqa" / "sets" / f"{name}.yaml").read_bytes()
    yield b"attributes:\n  hat:\n    question: is it a hat?\n"
    yield (
        b"attributes:\n  hat: {questions: [a hat?, 'hat?'], threshold: 0.4, abstain: [0.2, 0.8]}\n"
        b"derived:\n  bare: not hat\n"
    )


TARGET = Target(run=run, seeds=seeds, words=_WORDS)
