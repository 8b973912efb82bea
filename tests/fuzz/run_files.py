"""A run's own files, damaged: they are read, or refused with a RunError or ConfigError."""

import functools
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from faceattr.commands.status import describe_status
from faceattr.data.runs.lease import find_driver
from faceattr.data.runs.status import read_run_status
from faceattr.data.runs.version import read_manifest, read_published, read_record
from faceattr.errors import ConfigError, RunError
from tests.fakes.stores import MemoryStore
from tests.fuzz.target import Target
from tests.label_runs import write_label_run

_WORDS = (b"null", b"true", b"[]", b"{}", b"-1", b"1e400", b'"plan"', b'"parts"', b'"files"', b'"kind"', b"PAR1")
_SESSION = b'{"started": 1.0, "rows": 2, "samples": [[1.0, 0], [2.0, 2]], "schema_version": 1}'
_OWNER = b'{"host": "a", "machine": "m", "pid": 1, "started": "1"}'
_LEASE = b'{"owner": %s, "beats": 1, "released": true, "why": "stopped"}' % _OWNER


@functools.cache
def _whole() -> Mapping[str, bytes]:
    """Key to bytes of a published run of two rows, and of what a running one has beside it."""
    with tempfile.TemporaryDirectory() as folder:
        write_label_run(folder, ["hat"], {"a.jpg": (b"1", {"hat": 1}), "b.jpg": (None, {})}, root="images")
        paths = (path for path in Path(folder).rglob("*") if path.is_file())
        found = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    beside = {"sessions/0.json": _SESSION, "_lease/00000001.json": _LEASE}
    return dict(sorted({**found, **beside}.items()))


def run(data: bytes) -> None:
    """Reads all of a run one of whose files is replaced: the first byte says which."""
    whole = _whole()
    key = sorted(whole)[data[0] % len(whole)] if data else "run.json"
    store = MemoryStore()
    store.objects.update({**whole, key: data[1:]})
    for read in (read_record, read_manifest, _read_rows, _describe):
        try:
            read(store)
        except (RunError, ConfigError) as error:
            assert str(error).strip()  # noqa: PT017


def _read_rows(store: MemoryStore) -> None:
    assert sum(len(rows) for rows in read_published(store)) == 2


def _describe(store: MemoryStore) -> None:
    at_once = functools.partial(find_driver, sleep=lambda seconds: None)
    assert describe_status(store.uri, read_run_status(store, count_rejects_in=0, find_driver=at_once))


def seeds() -> Iterable[bytes]:
    """Each file, undamaged."""
    for number, data in enumerate(_whole().values()):
        yield bytes([number]) + data


TARGET = Target(run=run, seeds=seeds, words=_WORDS)
