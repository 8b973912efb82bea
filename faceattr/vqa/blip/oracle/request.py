"""What the plain path is asked for a self-test, and everything that its answer depends on."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from faceattr.vqa.blip.tokens import QuestionStart, TokenizedQuestion
from faceattr.vqa.questions import VqaQuestion

# Increased by hand when the plain path or the images of the self-test change.
_ORACLE_VERSION = 1
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def _installed() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


@dataclass(frozen=True, kw_only=True)
class OracleRequest:
    """Asks for the plain path's scores of `draw_noise`. Equal requests have equal answers.

    Attributes:
        weights_id: hash of the checkpoint's files.
        size_px: side of the images.
        question_start: `cls` or `enc`.
        questions: the questions.
        tokenized: their token ids by our tokenizer; transformers' has to find the same.
        packages: distribution -> installed version.
        oracle_version: version of the code that answers.
    """

    weights_id: str
    size_px: int
    question_start: QuestionStart
    questions: tuple[VqaQuestion, ...]
    tokenized: tuple[TokenizedQuestion, ...]
    packages: dict[str, str] = field(default_factory=_installed)
    oracle_version: int = _ORACLE_VERSION

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the answer: two images, the answers of all questions."""
        return 2, sum(len(question.answers) for question in self.questions)

    @property
    def key(self) -> str:
        """SHA-256 over all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A request for the process that runs the plain path.

    Attributes:
        request: the request.
        folder: the checkpoint's files.
        cache: folder of this machine in which the answer is kept.
        threads: CPU threads to compute with.
        is_fresh: whether to compute even if an answer is kept.
    """

    request: OracleRequest
    folder: Path
    cache: Path
    threads: int
    is_fresh: bool = False
