"""A read-only store on any file system that pyarrow can open."""

from collections.abc import Iterator

import pyarrow.fs

from faceattr.data.stores.keys import join_uri, may_hold
from faceattr.data.stores.local_files import read_stream
from faceattr.data.stores.store import (
    LargeObjectError,
    MissingObjectError,
    ObjectInfo,
    ReadOnlyStore,
    RefusedObjectError,
)
from faceattr.errors import ConfigError, StorageError


def open_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Returns pyarrow's file system of an address, and the path in it.

    Raises:
        OSError, ValueError, TypeError: pyarrow cannot open it.
    """
    if uri.startswith("hf://"):
        # Late: a second to import, which runs over other stores can do without.
        from faceattr.data.hub.filesystem import open_hub  # noqa: PLC0415

        return open_hub(uri)
    filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    return filesystem, path


class ArrowStore(ReadOnlyStore):
    """Any other file system that pyarrow opens (gs, abfs, hdfs, hf ...), for reading images, not for writing runs."""

    def __init__(self, uri: str) -> None:
        try:
            self._filesystem, self._path = open_filesystem(uri)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{uri!r} cannot be opened: {error}; known are local paths, s3:// and pyarrow's"
            ) from error
        self.uri = uri

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See Store.list."""
        root = self._path.rstrip("/")
        pending = [root]
        while pending:  # one folder at a time: a recursive selector would keep every name of the bucket in memory
            selector = pyarrow.fs.FileSelector(pending.pop(), allow_not_found=True)
            try:
                entries = sorted(self._filesystem.get_file_info(selector), key=lambda entry: entry.path)
            except OSError as error:
                raise StorageError(f"cannot list {self.uri}: {error}") from error
            for entry in entries:
                key = entry.path[len(root) + 1 :]
                if entry.type == pyarrow.fs.FileType.Directory:
                    if may_hold(f"{key}/", prefix):
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
                if now != len(data):  # else the object was replaced, and its present content is used
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
