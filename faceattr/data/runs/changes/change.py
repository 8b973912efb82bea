"""A change of a run's rows, frozen before any of its work: what the next version adds and leaves out.

    update-v3.json                  an update of version 2 by a new listing of the images
    deletion-v3-1f0c9a2b.json       a deletion from version 2, with the first digits of the request's hash

As run.json for a new run, such a file is written once, after the files that it names, by a conditional PUT. So an
interrupted change is the same change when it is resumed, and the shards of two changes never mix.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from faceattr.data.formats.integrity import hash_bytes
from faceattr.data.formats.json_files import damage_named, decode_versioned, encode_versioned
from faceattr.data.runs.changes.extent import Extent
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.store import MissingObjectError, Store
from faceattr.errors import RunError

UPDATE = "update"
DELETION = "deletion"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change from one version to the next.

    Attributes:
        key: key of its file.
        version: the version that it makes; it continues the one before.
        extent: the rows of that version.
        hashes: sha256 of the other files that it wrote for readers, by key.
        facts: `kind`, and counts for people and programs; in the manifest of the version.
    """

    key: str
    version: int
    extent: Extent
    hashes: Mapping[str, str]
    facts: Mapping[str, Any]

    @property
    def kind(self) -> Literal["update", "deletion"]:
        """What it does."""
        kind: Literal["update", "deletion"] = self.facts["kind"]
        return kind

    @property
    def suffix(self) -> str:
        """Distinguishes its folder of shards from the folder of another change to the same version."""
        return hash_bytes(self.encode())[:8]

    def encode(self) -> bytes:
        """Returns the bytes of the file."""
        value = {
            "version": self.version,
            "extent": self.extent.to_json(),
            "hashes": dict(self.hashes),
            "facts": dict(self.facts),
        }
        return encode_versioned(value, indent=1)


def update_key(version: int) -> str:
    """Returns the key of the update that makes a version."""
    return f"{UPDATE}-v{version}.json"


def read_change(store: Store, key: str) -> Change | None:
    """Returns a change that was begun, or None. Raises RunError if its file is damaged."""
    try:
        data = store.get(key)
    except MissingObjectError:
        return None
    where = join_uri(store.uri, key)
    value = decode_versioned(data, where)
    with damage_named(where):
        return Change(
            key=key,
            version=value["version"],
            extent=Extent.from_json(value["extent"], where),
            hashes=value["hashes"],
            facts=value["facts"],
        )


def begin_change(store: Store, change: Change) -> Change:
    """Freezes a change: from now on it is what a resumed command finds. Another driver's, if it was first, counts."""
    if store.put_if_absent(change.key, change.encode()):
        return change
    return read_change(store, change.key) or change


def refuse_begun_deletion(store: Store) -> None:
    """Raises RunError if a deletion was begun and not ended: nothing else may continue the run before it."""
    if find_deletion(store) is not None:
        raise RunError(
            f"{store.uri}: a deletion was begun here and has not ended; finish it first: "
            f"faceattr delete-rows {store.uri}"
        )


def find_deletion(store: Store) -> Change | None:
    """Returns the deletion that was begun and not ended, or None: its file is removed when old files are gone."""
    keys = sorted(each.key for each in store.list(f"{DELETION}-") if each.key.endswith(".json"))
    return read_change(store, keys[-1]) if keys else None
