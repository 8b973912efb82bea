"""`faceattr lineage`: what was made from a run, and so is reached by a deletion from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tyro

from faceattr.config import StorageConfig
from faceattr.data.formats.json_text import encode_json
from faceattr.data.lineage import MadeFrom, Reached, Work, find_works, read_work, trace
from faceattr.data.runs.changes.deletion import read_deletions
from faceattr.data.stores.open import open_store
from faceattr.logs import say

_UNKNOWN = (
    "folders that were not searched, and runs whose folder was renamed while only its address is recorded",
    "copies: exports (`faceattr export`), audits' copied images outside these folders, downloads, published models",
    "older versions of objects in a bucket with versioning, snapshots and backups",
    "what a model has learnt from single images: only training again without them removes it",
)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Lists what was made from a run or a model, and when: packed runs, models, predictions, evaluations, audits.

    For a run with deletions it says of each whether it was made before the last of them, and so may hold deleted rows.
    """

    run: tyro.conf.Positional[str]
    """Folder of a label, prediction or packed run, of a model, or of a search."""
    below: tuple[str, ...] = ()
    """Folders to search, all of whose objects are listed. Default: the folder that holds RUN."""
    json: bool = False
    """Print one JSON object in place of text."""
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __call__(self) -> int:
        """Searches the folders and prints what was found."""
        origin = read_work(self.run, self.storage)
        folders = self.below or (origin.uri.rpartition("/")[0],)
        reached = trace(origin, find_works(folders, self.storage))
        deletions = read_deletions(open_store(origin.uri, self.storage))
        last = int(deletions[-1]["version"]) if deletions else None
        say(_to_json(origin, folders, reached, last) if self.json else _to_text(origin, folders, reached, last))
        return 0


def _to_text(origin: Work, folders: Sequence[str], reached: Sequence[Reached], last: int | None) -> str:
    lines = [f"{origin.kind}  {origin.uri}  begun {origin.begun}"]
    lines += [f"made from  {_describe(each)}" for each in origin.made_from]
    if last is not None:
        lines.append(f"the last deletion from it made version {last}")
    lines.append(f"{len(reached):,} made from it, below {', '.join(folders)}:")
    for each in reached:
        state = f": {_describe_state(each, last)}" if last is not None else ""
        lines.append(f"  {each.work.kind:10} {each.work.uri}  begun {each.work.begun}, from {each.source.uri}{state}")
    return "\n".join([*lines, "cannot be known:", *(f"  {text}" for text in _UNKNOWN)])


def _to_json(origin: Work, folders: Sequence[str], reached: Sequence[Reached], last: int | None) -> str:
    value: dict[str, Any] = {
        "run": origin.uri,
        "kind": origin.kind,
        "run_id": origin.run_id,
        "searched": list(folders),
        "last_deletion": last,
        "reached": [
            {
                "uri": each.work.uri,
                "kind": each.work.kind,
                "run_id": each.work.run_id,
                "begun": each.work.begun,
                "made_from": each.source.uri,
                "version": each.version,
                "may_hold_deleted_rows": last is not None and not _is_later(each, last),
            }
            for each in reached
        ],
        "cannot_be_known": list(_UNKNOWN),
    }
    return encode_json(value)


def _is_later(each: Reached, last: int) -> bool:
    return each.version is not None and each.version >= last


def _describe_state(each: Reached, last: int) -> str:
    if _is_later(each, last):
        return f"of version {each.version}, without the deleted rows"
    if each.version is None:
        return "the version is not recorded, so it may hold deleted rows"
    return f"of version {each.version}, before the last deletion: it may hold deleted rows"


def _describe(given: MadeFrom) -> str:
    version = "" if given.version is None else f", version {given.version}"
    known = given.address or f"run {given.run_id}"
    return f"{known}{version}"
