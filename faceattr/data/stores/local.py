"""A store in a local folder. Hard links make sure that one `put_if_absent` of several wins."""

import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from faceattr.data.stores.keys import may_hold
from faceattr.data.stores.local_files import read_regular_file
from faceattr.data.stores.store import ObjectInfo
from faceattr.errors import StorageError

_TEMPORARY_PREFIX = ".tmp-"


_TEMPORARY_NAME = re.compile(re.escape(_TEMPORARY_PREFIX) + "[0-9a-f]+")


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
        # scandir, sorted folder by folder: it streams, and gives the same order on every machine.
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
                        continue  # a link back would list every image repeatedly under longer names
                if may_hold(f"{key}/", prefix):
                    yield from self._walk(f"{key}/", prefix, inside)
            elif key.startswith(prefix):
                yield _describe(Path(entry.path), key)

    def get(self, key: str, *, max_bytes: int | None = None, listed: ObjectInfo | None = None) -> bytes:
        """See Store.get. A file system returns the whole file or an error, so `listed` is ignored."""
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


def _describe(path: Path, key: str) -> ObjectInfo:
    try:
        status = path.stat()
    except OSError:  # a dangling link, or one to itself: it is listed, and reading it fails
        return ObjectInfo(key=key, num_bytes=0, etag=None, modified_s=0.0)
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
    return ObjectInfo(key=key, num_bytes=status.st_size, etag=etag, modified_s=status.st_mtime)


def _sync_folder(folder: Path) -> None:
    # A rename or link is durable only once its folder has been synced.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
