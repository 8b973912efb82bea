"""Stores: one small interface over a local folder, an S3 bucket and what pyarrow can read besides.

A store is rooted at a URI; keys are relative to it and use `/`. Runs need exactly one strong guarantee of a store:
`put_if_absent` has one winner, and a reader sees a whole object or none. Local folders give it by hard links, S3 by
conditional PUT; other file systems can be read but not written.

Credentials come from each process's environment or role, never from a URI or a config (a config is pickled into tasks
and saved with outputs).
"""

import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pyarrow.fs

from faceattr.config import StorageConfig
from faceattr.data.stores.addresses import check_no_credentials, local_part, normalise_address, resolve_address
from faceattr.data.stores.local_files import read_regular_file, read_stream
from faceattr.data.stores.s3 import S3Store
from faceattr.data.stores.store import LargeObjectError, MissingObjectError, ObjectInfo, RefusedObjectError
from faceattr.errors import ConfigError, StorageError

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BUCKET = re.compile(r"[a-zA-Z0-9._-]{3,255}")
_TEMPORARY_PREFIX = ".tmp-"
_TEMPORARY_NAME = re.compile(re.escape(_TEMPORARY_PREFIX) + "[0-9a-f]+")


class Store(Protocol):
    """A rooted key-value store of whole objects. All methods raise StorageError on outage or refusal."""

    uri: str

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Objects whose key starts with `prefix`, recursively, streaming, in no promised order; no folder markers."""
        ...

    def get(self, key: str, *, max_bytes: int | None = None, listed: ObjectInfo | None = None) -> bytes:
        """The whole object.

        Args:
            key: of the object.
            max_bytes: what the reader has room for; a larger object is not fetched.
            listed: what a listing said of it; a body of another size is not taken while the object is the same.

        Raises:
            MissingObjectError: there is none.
            RefusedObjectError: it is kept back.
            LargeObjectError: it has more than `max_bytes`.
        """
        ...

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes a new object. Returns False, writing nothing, if the key exists (perhaps by our own lost answer)."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Writes or replaces an object, atomically for readers. For files that one writer owns."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; no error if there is none."""
        ...


def open_store(uri: str, options: StorageConfig | None = None) -> Store:
    """The store rooted at `uri`: a local path, `file://`, `s3://bucket/prefix` or anything pyarrow can open.

    Raises:
        ConfigError: the URI cannot be used: unknown scheme, credentials inside it, no bucket.
    """
    check_no_credentials(uri, "a store's URI")
    options = options or StorageConfig()
    scheme = _SCHEME.match(normalise_address(uri))
    if scheme is None:
        # Not normalised any further: the roots in the plans of earlier runs may hold `..`.
        return LocalStore(Path(local_part(uri)))
    uri = normalise_address(uri)
    match scheme.group(1):
        case "s3":
            bucket, _, prefix = uri[len("s3://") :].partition("/")
            if not _BUCKET.fullmatch(bucket):
                raise ConfigError(f"{uri!r}: expected s3://bucket/prefix")
            return S3Store(bucket, prefix, endpoint_url=options.endpoint_url, deadline_s=options.deadline_s)
        case _:
            return ArrowStore(uri)


def open_output(uri: str, options: StorageConfig | None = None) -> Store:
    """The store of a run folder: `open_store`, for places that can be written exactly once.

    Raises:
        ConfigError: the URI cannot be used, or not for writing.
    """
    uri = resolve_address(uri, "--output")
    scheme = _SCHEME.match(uri)
    if scheme is not None and scheme.group(1) != "s3":
        raise ConfigError(
            f"--output {uri!r}: runs are written to local folders and s3:// only; images may be read there"
        )
    return open_store(uri, options)


def join_uri(root: str, key: str) -> str:
    """URI of a key below a root."""
    return f"{root.rstrip('/')}/{key}"


def split_uri(uri: str) -> tuple[str, str]:
    """Root and key of one object's URI: everything up to the last slash, and the rest."""
    root, slash, key = uri.rpartition("/")
    return (root or ("/" if slash else "."), key)


def check_key(key: str) -> str | None:
    """What is wrong with a key that should lie under one root, or None if nothing is."""
    if not key.strip():
        return "it is empty"
    if _SCHEME.match(key):
        return "it names a scheme, but all images must lie under one root"
    if key.startswith("/"):
        return "it is an absolute path outside the root"
    if ".." in key.split("/"):
        return "it climbs out of the root with '..'"
    if _CONTROL.search(key):
        return "it holds control characters"
    return None


class LocalStore:
    """A local folder. New objects appear by `link`, which fails if the name exists, so there is one winner."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.uri = str(self.root)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store.list."""
        yield from self._walk("", prefix, frozenset([self.root.resolve()]))

    def _walk(self, folder_key: str, prefix: str, followed: frozenset[Path]) -> Iterator[ObjectInfo]:
        folder = self.root / folder_key
        # scandir, sorted folder by folder: streams, and gives the same order on every machine.
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StorageError(f"cannot list {folder}: {error.strerror}") from error
        for entry in found:
            if _TEMPORARY_NAME.fullmatch(entry.name):
                continue
            key = folder_key + entry.name
            if _is_folder(entry):
                inside = followed
                if entry.is_symlink():
                    target, inside = Path(entry.path).resolve(), followed | {folder.resolve()}
                    if any(each.is_relative_to(target) for each in inside):
                        continue  # a link back would show every image again and again under longer names
                if _may_hold(f"{key}/", prefix):
                    yield from self._walk(f"{key}/", prefix, inside)
            elif key.startswith(prefix):
                yield _describe(Path(entry.path), key)

    def get(self, key: str, *, max_bytes: int | None = None, listed: ObjectInfo | None = None) -> bytes:
        """See Store.get. A file system gives all of a file or an error, so `listed` is not looked at."""
        return read_regular_file(self.root / key, max_bytes=max_bytes)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See Store.put_if_absent."""

        def publish(temporary: Path, path: Path) -> bool:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            return True

        return self._write(key, data, publish)

    def put(self, key: str, data: bytes) -> None:
        """See Store.put."""

        def publish(temporary: Path, path: Path) -> bool:
            temporary.replace(path)
            return True

        self._write(key, data, publish)

    def _write(self, key: str, data: bytes, publish: Callable[[Path, Path], bool]) -> bool:
        path = self.root / key
        temporary = path.parent / f"{_TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                created = publish(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}") from error
        return created

    def delete(self, key: str) -> None:
        """See Store.delete."""
        try:
            (self.root / key).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete {self.root / key}: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _may_hold(folder_key: str, prefix: str) -> bool:
    """Whether keys below a folder can start with a prefix: one of the two starts with the other."""
    return folder_key.startswith(prefix) or prefix.startswith(folder_key)


def _describe(path: Path, key: str) -> ObjectInfo:
    try:
        status = path.stat()
    except OSError:  # a dangling link, or one to itself: listed, and found out when it is read
        return ObjectInfo(key=key, num_bytes=0, etag=None, modified_s=0.0)
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key=key, num_bytes=status.st_size, etag=etag, modified_s=status.st_mtime)


def _sync_folder(folder: Path) -> None:
    # A rename or link is durable only once its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ArrowStore:
    """Any other file system that pyarrow opens (gs, abfs, hdfs ...): images are read from it, no run is written."""

    def __init__(self, uri: str) -> None:
        try:
            self._filesystem, self._path = pyarrow.fs.FileSystem.from_uri(uri)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{uri!r} cannot be opened: {error}; known are local paths, s3:// and pyarrow's"
            ) from error
        self.uri = uri

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store.list."""
        root = self._path.rstrip("/")
        pending = [root]
        while pending:  # one folder at a time: a recursive selector would hold every name of the bucket
            selector = pyarrow.fs.FileSelector(pending.pop(), allow_not_found=True)
            try:
                entries = sorted(self._filesystem.get_file_info(selector), key=lambda entry: entry.path)
            except OSError as error:
                raise StorageError(f"cannot list {self.uri}: {error}") from error
            for entry in entries:
                key = entry.path[len(root) + 1 :]
                if entry.type == pyarrow.fs.FileType.Directory:
                    if _may_hold(f"{key}/", prefix):
                        pending.append(entry.path)
                elif key.startswith(prefix):
                    yield ObjectInfo(
                        key=key,
                        num_bytes=entry.size or 0,
                        etag=None,
                        modified_s=(entry.mtime_ns or 0) / 1e9,
                    )

    def get(self, key: str, *, max_bytes: int | None = None, listed: ObjectInfo | None = None) -> bytes:
        """See Store.get."""
        path = f"{self._path.rstrip('/')}/{key}"
        try:
            with self._filesystem.open_input_stream(path) as stream:
                data = read_stream(stream.read, key, max_bytes=max_bytes)
            if listed is not None and len(data) != listed.num_bytes:
                now = self._filesystem.get_file_info(path).size
                if now != len(data):  # else it was replaced, and is taken as it is now
                    what = f"{len(data):,} of {now:,} bytes"
                    message = f"cannot read {join_uri(self.uri, key)}: the store gave {what}"
                    raise RefusedObjectError(message, detail=f"the store gave {what}")
            return data
        except LargeObjectError as error:
            size = self._filesystem.get_file_info(path).size or error.num_bytes
            raise LargeObjectError(key, num_bytes=size, max_bytes=int(max_bytes or 0)) from error
        except FileNotFoundError as error:
            raise MissingObjectError(key) from error
        except PermissionError as error:
            raise RefusedObjectError(f"cannot read {join_uri(self.uri, key)}: {error}", detail=str(error)) from error
        except OSError as error:
            raise StorageError(f"cannot read {join_uri(self.uri, key)}: {error}") from error

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Refused: pyarrow offers no conditional write, so the run could not be exactly-once."""
        raise self._read_only()

    def put(self, key: str, data: bytes) -> None:
        """Refused, as put_if_absent is."""
        raise self._read_only()

    def delete(self, key: str) -> None:
        """Refused, as put_if_absent is."""
        raise self._read_only()

    def _read_only(self) -> ConfigError:
        return ConfigError(
            f"{self.uri!r}: runs can be written to local folders and s3:// only; images may be read here"
        )
