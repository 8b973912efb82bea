"""What was made from a run: packed runs, trained models, predictions, searches, evaluations and audits.

Nothing keeps a list of them, so folders are searched for the files in which each names what it was made from:

    run.json          of a label, prediction or packed run, a training or a search
    evaluation.json   of an evaluation
    audit.json        of an audit

A run is named by its id. Where only an address is there (a model, a data set of an earlier faceattr), it is compared
with the addresses of the runs that were found.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faceattr.config import StorageConfig
from faceattr.data.formats.json_files import damage_named, decode_object
from faceattr.data.packed.reader import PackedData
from faceattr.data.runs.version import read_record
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.open import open_store
from faceattr.data.stores.store import ObjectInfo, Store
from faceattr.errors import ConfigError

_FILES = ("run.json", "evaluation.json", "audit.json")


@dataclass(frozen=True, kw_only=True)
class MadeFrom:
    """One thing that a folder names as its input.

    Attributes:
        run_id: id of a run; None where only an address is known.
        address: where it was; None where only an id is known.
        version: version of the run's table that was read, where it is known.
    """

    run_id: str | None = None
    address: str | None = None
    version: int | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """A folder that a job wrote.

    Attributes:
        uri: the folder.
        kind: kind of job.
        run_id: id of the run; None for evaluations and audits.
        begun_s: when it was begun, in seconds since 1970, by the clock of the store.
        made_from: its inputs.
    """

    uri: str
    kind: str
    run_id: str | None
    begun_s: float
    made_from: tuple[MadeFrom, ...]

    @property
    def begun(self) -> str:
        """When it was begun, as text."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.begun_s))

    def is_named_by(self, given: MadeFrom) -> bool:
        """Whether an input is this work, or a part of its folder."""
        if given.run_id is not None and self.run_id is not None:
            return given.run_id == self.run_id
        if given.address is None:
            return False
        return f"{_normal(given.address)}/".startswith(f"{self.uri.rstrip('/')}/")


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Something that was made from a run, perhaps through others.

    Attributes:
        work: what it is.
        source: what it was made from.
        version: version of the first run that is the origin of its rows; None if that is not recorded.
    """

    work: Work
    source: Work
    version: int | None


def describe_data(data: PackedData) -> dict[str, Any]:
    """Returns what run.json says of the packed runs that a training or a search learns from."""
    records = [(uri, read_record(open_store(resolve_address(uri, "--data"), data.storage))) for uri in data.uris]
    packed = [{"uri": uri, "run_id": record.run_id} for uri, record in records if record is not None]
    return {"data": list(data.uris), "packed": packed, "fingerprint": data.fingerprint}


def find_works(folders: Sequence[str], storage: StorageConfig) -> list[Work]:
    """Lists all objects below the folders, and reads the files that say what was made from what."""
    found: dict[str, Work] = {}
    for folder in folders:
        store = open_store(resolve_address(folder, "--below"), storage)
        for entry in store.list():
            if entry.key.rpartition("/")[2] in _FILES:
                work = _read_work(store, entry)
                if work is not None:
                    found.setdefault(work.uri, work)
    return sorted(found.values(), key=lambda each: (each.begun_s, each.uri))


def read_work(address: str, storage: StorageConfig) -> Work:
    """Reads the run in a folder. Raises ConfigError if there is none."""
    store = open_store(resolve_address(address, "the run"), storage)
    for name in _FILES:
        for entry in store.list(name):
            work = _read_work(store, entry) if entry.key == name else None
            if work is not None:
                return work
    raise ConfigError(f"{address} holds no run (none of {', '.join(_FILES)}); give the --output of a command")


def trace(origin: Work, works: Sequence[Work]) -> list[Reached]:
    """Returns what was made from a run, each once, with what is nearest to the run first."""
    found: dict[str, Reached] = {}
    ring = [Reached(work=origin, source=origin, version=None)]
    while ring:
        following = []
        for before in ring:
            for work in works:
                given = next((each for each in work.made_from if before.work.is_named_by(each)), None)
                if given is None or work.uri in {origin.uri, *found}:
                    continue
                version = given.version if before.work is origin else before.version
                found[work.uri] = Reached(work=work, source=before.work, version=version)
                following.append(found[work.uri])
        ring = following
    return list(found.values())


def _read_work(store: Store, entry: ObjectInfo) -> Work | None:
    """Returns the work that a file tells of; None if it is another program's file of the same name."""
    folder, _, name = entry.key.rpartition("/")
    where = join_uri(store.uri, entry.key)
    value = decode_object(store.get(entry.key), where)
    if "schema_version" not in value and "fingerprint" not in value:
        return None
    with damage_named(where):
        if name == "run.json":
            kind, run_id, made_from = str(value["kind"]), str(value["run_id"]), tuple(_inputs_of_run(value))
        elif name == "evaluation.json":
            config = value.get("config", {})
            kind, run_id = "evaluation", None
            made_from = tuple(_addresses([config.get("model"), config.get("compare"), *config.get("data", ())]))
        else:
            kind, run_id = "audit", None
            made_from = (MadeFrom(run_id=value["run_id"], address=value["table"], version=value["version"]),)
    uri = (join_uri(store.uri, folder) if folder else store.uri).rstrip("/")
    return Work(uri=uri, kind=kind, run_id=run_id, begun_s=entry.modified_s, made_from=made_from)


def _inputs_of_run(value: Mapping[str, Any]) -> Iterator[MadeFrom]:
    fingerprint, source, notes = value["fingerprint"], value["source"], value["notes"]
    labels = fingerprint.get("labels")
    if isinstance(labels, Mapping):  # of a packed run: address -> what identifies the label run
        for address, each in labels.items():
            yield MadeFrom(run_id=each["run_id"], address=address, version=each["version"])
    for each in fingerprint.get("combined", ()):
        yield MadeFrom(run_id=each["run_id"], version=each["version"])
    for each in source.get("packed", ()):
        yield MadeFrom(run_id=each["run_id"], address=each["uri"])
    if "packed" not in source:  # a training of an earlier faceattr
        yield from _addresses(source.get("data", ()))
    origin = notes.get("resumed_from")
    if origin:
        yield MadeFrom(run_id=origin["run_id"], address=origin["uri"])
    base = notes.get("base", value["config"])
    model = base.get("model") if isinstance(base, Mapping) else None
    yield from _addresses([model.get("checkpoint") if isinstance(model, Mapping) else model])
    yield from _addresses([fingerprint.get("images"), fingerprint.get("root"), value["config"].get("labels")])


def _addresses(values: Sequence[Any]) -> Iterator[MadeFrom]:
    for value in values:
        if isinstance(value, str) and value:
            yield MadeFrom(address=value)


def _normal(address: str) -> str:
    """Returns an address in the form of a store's URI; a relative path is taken from the current folder."""
    return resolve_address(address, "the address").rstrip("/")
