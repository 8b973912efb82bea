"""Reads every file of a published version again and compares it with the manifest."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from faceattr.config import StorageConfig
from faceattr.data.runs.version import read_manifest, read_record
from faceattr.data.stores.keys import join_uri
from faceattr.data.stores.ranged import open_ranged
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError, StorageError

_CHUNK_BYTES = 8 * 2**20
# Called with the bytes done and the total bytes.
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The result of a verification.

    Attributes:
        num_files: files that were compared.
        num_bytes: bytes that were read.
        num_unhashed: parts of the plan that an earlier version wrote without a hash, which were not compared.
        problems: one line per file that is missing or differs from what was written.
    """

    num_files: int
    num_bytes: int
    num_unhashed: int
    problems: tuple[str, ...]


def verify_published(
    store: Store, storage: StorageConfig, on_bytes: OnBytes = lambda done, total: None
) -> Verification:
    """Compares all files of the latest published version that have a hash, and the plan's parts, in a few MB of memory.

    Args:
        store: the run folder.
        storage: how it is reached.
        on_bytes: receives the progress, every few MB.

    Raises:
        ConfigError: nothing is published, so there is nothing to compare the files with.
        RunError: run.json or the manifest is damaged.
        StorageError: an outage.
    """
    manifest = read_manifest(store)
    record = read_record(store)
    if record is None or manifest is None:
        raise ConfigError(f"{store.uri}: there is no published run, so there is no manifest to compare its files with")
    parts = manifest.settle(record).plan.parts
    hashed = [part for part in parts if part.sha256 is not None]
    # The other files have no recorded size: only their hash is compared.
    noted: list[tuple[str, int | None, str]] = [(file.key, file.num_bytes, file.sha256) for file in manifest.files]
    noted += [(key, None, sha256) for key, sha256 in manifest.hashes.items()]
    noted += [(part.key, None, str(part.sha256)) for part in hashed]
    noted += [(file.key, None, file.sha256) for file in (() if manifest.extent is None else manifest.extent.files)]
    total = sum(size or 0 for _, size, _ in noted)
    num_bytes, done, problems = 0, 0, []
    for key, size, sha256 in noted:
        found, digest = 0, hashlib.sha256()
        uri = join_uri(store.uri, key)
        try:
            for chunk in _read_chunks(uri, storage):
                found += len(chunk)
                digest.update(chunk)
                on_bytes(min(done + found, total), total)
        except FileNotFoundError:
            problems.append(f"{uri} is gone")
        else:
            problems += _compare(uri, (found, size), (digest.hexdigest(), sha256))
        num_bytes += found
        done += size or 0
    return Verification(
        num_files=len(noted),
        num_bytes=num_bytes,
        num_unhashed=len(parts) - len(hashed),
        problems=tuple(problems),
    )


def _read_chunks(uri: str, storage: StorageConfig) -> Iterator[bytes]:
    try:
        with open_ranged(uri, storage) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageError(f"cannot read {uri}: {error}") from error


def _compare(uri: str, sizes: tuple[int, int | None], hashes: tuple[str, str]) -> list[str]:
    if sizes[1] is not None and sizes[0] != sizes[1]:
        return [f"{uri} has {sizes[0]:,} bytes, and had {sizes[1]:,} when written"]
    if hashes[0] != hashes[1]:
        return [f"{uri} is damaged: its sha256 is {hashes[0]}, and was {hashes[1]} when written"]
    return []
