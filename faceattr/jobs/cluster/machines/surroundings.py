"""Checks what Ray needs of this machine and its cluster before it starts: Ray itself reports it late or obscurely."""

import os
import re
import socket
import tempfile
import uuid
from pathlib import Path

from faceattr.errors import ConfigError, RunError

# The kernel's limit on the length of a socket's path in bytes, without the terminating zero.
_MAX_SOCKET_PATH = 107
# The longest socket path that Ray appends to its folder for temporary files; the process id follows.
_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_/sockets/plasma_store"
_CONNECT_S = 5.0
_ADDRESS = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:]+\]|[^\s/:\[\]]+):(?P<port>[0-9]+)")


def check_surroundings(address: str | None) -> None:
    """Checks what a session is to be joined at or started with.

    Args:
        address: RAY_ADDRESS; None or empty starts a session on this machine.

    Raises:
        ConfigError: an address or a folder in the environment cannot be used.
        RunError: nothing answers at the address.
    """
    if not address or address == "local":
        _check_folder()
        if os.environ.get("RAY_AUTH_MODE", "token") == "token" and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
            _check_home()
    else:
        _check_cluster(address)


def _check_cluster(address: str) -> None:
    found = _current_cluster() if address == "auto" else address
    if found is None:
        return  # Ray searches for one, and says at once if there is none
    match = _ADDRESS.fullmatch(found)
    if match is None:
        raise ConfigError(f"RAY_ADDRESS={address}: expected host:port of a cluster's head, ray://host:port, or auto")
    try:
        with socket.create_connection((match["host"].strip("[]"), int(match["port"])), _CONNECT_S):
            return
    except (OSError, OverflowError) as error:
        where = found if found == address else f"{address} ({found})"
        raise RunError(
            f"no Ray cluster answers at RAY_ADDRESS {where}: {error}. Start it, correct the address, or unset "
            "RAY_ADDRESS to start one on this machine"
        ) from error


def _current_cluster() -> str | None:
    """Returns the address that `ray start` left on this machine."""
    try:
        return (Path(_temporary_folder()) / "ray" / "ray_current_cluster").read_text().strip() or None
    except OSError:
        return None


def _temporary_folder() -> str:
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()


def _check_folder() -> None:
    folder = _temporary_folder()
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "the folder for temporary files")
    most = _MAX_SOCKET_PATH - len(_SOCKET) - len(str(os.getpid()))
    if len(os.fsencode(folder)) > most:
        raise ConfigError(
            f"{name} {folder}: expected at most {most} bytes, found {len(os.fsencode(folder))}: Ray creates sockets in "
            f"it, whose paths are limited to {_MAX_SOCKET_PATH}. Set RAY_TMPDIR to a shorter folder, such as /tmp"
        )
    _check_writable(Path(folder) / "ray", f"{name} {folder}", "Set RAY_TMPDIR to a folder that can be written")


def _check_home() -> None:
    try:
        folder = Path.home()
    except RuntimeError as error:
        raise ConfigError(f"HOME is not set, and Ray keeps its token there: {error}. Set it") from error
    _check_writable(folder / ".ray", f"HOME {folder}", "Ray keeps its token there. Set HOME to such a folder")


def _check_writable(folder: Path, what: str, remedy: str) -> None:
    probe = folder / f".faceattr-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{what}: expected a folder that can be written: {error.strerror}. {remedy}") from error
