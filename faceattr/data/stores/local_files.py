"""Reading a local file: only regular files are opened, and refusals of the system are told apart."""

import errno
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from faceattr.data.stores.addresses import local_path
from faceattr.data.stores.store import LargeObjectError, MissingObjectError, RefusedObjectError
from faceattr.errors import ConfigError, StorageError

# Errors that can only concern this name.
_OF_THE_NAME = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EOVERFLOW, errno.EINVAL})
# Errors of one file (its permissions, a bad sector) or of all files (the folder's permissions, a failing disk).
_OF_FILE_OR_FOLDER = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENOKEY})
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def read_regular_file(path: Path, *, max_bytes: int | None = None) -> bytes:
    """Reads a regular file. A FIFO or a device, which might never end, is not opened.

    Args:
        path: path of the file.
        max_bytes: largest size that is read; None for no limit.

    Raises:
        LargeObjectError: the file has more than `max_bytes`.
        MissingObjectError: there is no file with this name.
        RefusedObjectError: it is not a regular file, or the system refuses this file.
        StorageError: another system error, which says nothing about the file.
    """
    try:
        _check_is_regular(path, os.stat(path))  # before opening: opening a device can have side effects
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            _check_is_regular(path, status)
            if max_bytes is None:
                return file.read()
            if status.st_size > max_bytes:
                raise LargeObjectError(str(path), num_bytes=status.st_size, max_bytes=max_bytes)
            # In pieces although the size is known, since the file may grow while it is read.
            return read_stream(file.read, str(path), max_bytes=max_bytes, piece_bytes=status.st_size + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise MissingObjectError(str(path)) from error
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        code = error.errno
        if code in _OF_THE_NAME or code in _OF_FILE_OR_FOLDER:
            detail = f"{errno.errorcode[code]}: {error.strerror}"
            raise RefusedObjectError(message, detail=detail, is_certain=code in _OF_THE_NAME) from error
        raise StorageError(message) from error


def read_stream(read: Callable[[int], bytes], name: str, *, max_bytes: int | None, piece_bytes: int = 2**20) -> bytes:
    """Reads the rest of a stream whose size is not certain before its end.

    Args:
        read: returns at most the given number of next bytes, and none at the end.
        name: name of the object, for the error.
        max_bytes: reading stops after this many bytes; None for no limit.
        piece_bytes: bytes per call of `read`.

    Raises:
        LargeObjectError: there are more than `max_bytes`; its `num_bytes` is the number of bytes read so far.
    """
    pieces: list[bytes] = []
    num_bytes = 0
    while piece := read(piece_bytes):
        pieces.append(piece)
        num_bytes += len(piece)
        if max_bytes is not None and num_bytes > max_bytes:
            raise LargeObjectError(name, num_bytes=num_bytes, max_bytes=max_bytes)
    return b"".join(pieces)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _check_is_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        detail = f"{kind}, not a regular file"
        raise RefusedObjectError(f"cannot read {path}: it is {detail}", detail=detail, is_certain=True)


def choose_output(output: Path | None, usual_name: str) -> Path:
    """Returns the local file or folder that a command writes; `usual_name` is for users who name none.

    Raises:
        ConfigError: `output` is not on this machine, or it is not given and a file or folder of the usual name exists.
    """
    if output is None and os.path.lexists(usual_name):
        raise ConfigError(f"{usual_name} is here already, and --output is not given; choose a name with --output")
    return local_path(output or usual_name, "--output")


def make_parent(path: Path, flag: str) -> None:
    """Creates the folder of a file that is to be written, and checks that the file can be written.

    Raises:
        ConfigError: it cannot be written, or the name is that of a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{flag} {path}: the folder {path.parent} cannot be created: {error.strerror}") from error
    if path.is_dir():
        raise ConfigError(f"{flag} {path}: expected a file name, found a folder")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{flag} {path}: the folder {path.parent} cannot be written")


@contextmanager
def new_text_file(path: Path) -> Iterator[TextIO]:
    """Opens a text file that appears under its name once it is complete; missing parent folders are created.

    Raises:
        ConfigError: the file cannot be written.
    """
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", newline="", encoding="utf-8") as file:
            yield file
        temporary.replace(path)
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):  # the folder above may be a file
            temporary.unlink(missing_ok=True)
