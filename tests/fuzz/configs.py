"""Files of `--config`: a config of a job, or a ConfigError."""

import contextlib
import io
import tempfile
from collections.abc import Iterable
from pathlib import Path

from faceattr.cli import parse_config
from faceattr.config import LabelConfig
from faceattr.config.overrides import dump_config
from faceattr.config.train import TrainConfig
from faceattr.errors import ConfigError
from tests.fuzz.target import Target

_WORDS = (
    b"workers:",
    b"batch_size:",
    b"optim:",
    b"lr:",
    b"null",
    b"true",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\n  ",
    b".inf",
    b"auto",
    b"''",
)


def run(data: bytes) -> None:
    """Reads a config of both jobs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_bytes(data)
        for config_class in (LabelConfig, TrainConfig):
            try:
                # A value that the flag's own parser refuses is told as a wrong flag is: on standard error, code 2.
                with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                    parse_config(config_class, ["--config", str(path)])
            except ConfigError as error:
                assert str(error).strip()  # noqa: PT017
            except SystemExit as error:
                assert error.code == 2  # noqa: PT017


def seeds() -> Iterable[bytes]:
    """Small files of both jobs, and a whole one."""
    yield b"images: a\noutput: b\nworkers:\n  batch_size: 8\n"
    yield b"images: a\noutput: b\nmodel: c\ndecode: {max_bytes: 10, timeout_s: 1.5}\n"
    yield b"data: [a]\noutput: b\noptim: {epochs: 3, lr: 1e-3}\nmodel:\n  backbone: resnet18\n"
    yield dump_config(TrainConfig(data=("a",), output="b")).encode()


TARGET = Target(run=run, seeds=seeds, words=_WORDS)
