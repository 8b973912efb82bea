"""Reading a file of a local folder: only regular files are opened, and what the system refuses is told apart."""

import errno
import os
import stat
from pathlib import Path

from faceattr.data.store_types import MissingObjectError, RefusedObjectError
from faceattr.errors import StorageError

# Errors that can only be about this one name.
_OF_THE_NAME = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EOVERFLOW, errno.EINVAL})
# Errors of one file (its rights, a bad sector) or of all files (the folder's rights, a dying disk).
_OF_FILE_OR_FOLDER = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENOKEY})
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def read_regular_file(path: Path) -> bytes:
    """The bytes of a regular file. A FIFO or a device, whose reading may never end, is not opened.

    Raises:
        MissingObjectError: there is no file of this name.
        RefusedObjectError: it is no regular file, or the system refuses this file.
        StorageError: the system gives another error, which says nothing about the file.
    """
    try:
        _check_is_regular(path, os.stat(path))  # before it is opened: to open a device can do something already
        with open(path, "rb", opener=_open_without_waiting) as file:
            _check_is_regular(path, os.fstat(file.fileno()))
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise MissingObjectError(str(path)) from error
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        code = error.errno
        if code in _OF_THE_NAME or code in _OF_FILE_OR_FOLDER:
            detail = f"{errno.errorcode[code]}: {error.strerror}"
            raise RefusedObjectError(message, detail=detail, is_certain=code in _OF_THE_NAME) from error
        raise StorageError(message) from error


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _check_is_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        detail = f"{kind}, not a regular file"
        raise RefusedObjectError(f"cannot read {path}: it is {detail}", detail=detail, is_certain=True)
