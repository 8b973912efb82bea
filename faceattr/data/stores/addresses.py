"""Addresses given by users: of folders, tables, models and single images.

Credentials come from each process's environment or role, never from an address: addresses are printed, logged, pickled
into tasks and saved with outputs. `check_no_credentials` is the only check, used for all of them.

A location has many spellings (`faces`, `./faces/`, `~/faces`, `file:///home/me/faces`); `normalise_address` returns the
one that stores, image keys and comparisons with earlier runs use.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from faceattr.errors import ConfigError

# A scheme and the authority after it. At the start one slash is enough, since pathlib keeps one of two. A Windows drive
# has one letter, so a scheme must have more.
_AUTHORITY = re.compile(r"(?:(?:^|(?<==))(?P<first>[a-z][a-z0-9+.-]+):/|(?P<any>[a-z][a-z0-9+.-]+)://)/*([^/?#\s]*)")
_PARAMETER = re.compile(r"[?&;#]\s*([\w.-]+)\s*=\s*[^&;#\s]")
_SECRET_NAME = re.compile(
    r"(?:signature|token|secret|passw(?:or)?d|passphrase|pwd|credentials?|accessid|hmac|rlkey"
    r"|(?:api|access|account|private|shared|secret|storage|sas)[-_.]?key(?:[-_.]?id)?"
    r"|\b(?:sig|sign|sas|jwt|auth|authorization|bearer))$"
)
_S3_SCHEMES = frozenset(["s3", "s3a", "s3n"])
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+)://(.*)", re.DOTALL)
# pathlib keeps one slash of two, and Spark writes one.
_FILE = re.compile(r"file:(?://(?:localhost(?=/))?)?(.*)", re.DOTALL | re.IGNORECASE)
# Keys of a run's settings that contain addresses, as a value, in lists or as keys of a mapping.
_ADDRESS_KEYS = frozenset(["images", "root", "labels", "data", "checkpoint"])
# Schemes whose addresses name a container or user before `@`, which is not a secret.
_NAMED_SCHEMES = frozenset(["abfs", "abfss", "wasb", "wasbs", "az", "adl", "hdfs", "viewfs", "sftp", "ssh"])


def find_credentials(address: str) -> str | None:
    """Returns what secret an address contains, in words that do not repeat it; None if it contains none.

    Detects a user and password (or key) before `@`, and the parameters of signed links and tokens after `?`. The
    container of `abfss://container@account.dfs.core.windows.net` is not a credential.
    """
    text = address.strip()
    if not (":" in text or "=" in text or "%" in text):
        return None  # fast for most addresses: this runs on every row of a table
    text = unquote(text).replace("\\", "/")
    text = f"http:{text}" if text.startswith("//") else text
    for match in _AUTHORITY.finditer(text.lower()):
        if _holds_password(match["first"] or match["any"], match[3]):
            return "a user, a password or a key in front of the host or bucket"
    for name in _PARAMETER.findall(text):
        if _SECRET_NAME.search(name.lower()):
            return f"the parameter {name!r} of a signed or secret link"
    return None


def _holds_password(scheme: str, authority: str) -> bool:
    if scheme == "file":
        return False
    user, at, host = authority.rpartition("@")
    if scheme in _S3_SCHEMES:
        return bool(at) or ":" in authority  # a bucket has no port
    if at and (":" in user or scheme not in _NAMED_SCHEMES) and user != "anonymous":
        return True
    # A secret may contain a slash before its `@`: in https://user:se/cret@host the colon reveals it.
    _, colon, port = host.rpartition("]")[2].partition(":")
    return bool(colon) and not (port.isascii() and port.isdigit())


def check_no_credentials(address: str, where: str) -> None:
    """Refuses an address that contains credentials.

    Args:
        address: any address; also a plain path, or the name of an image.
        where: start of the error text, such as `--images` or a manifest and its row.

    Raises:
        ConfigError: it contains credentials. The text names the place and not the secret.
    """
    found = find_credentials(address)
    if found is not None:
        raise ConfigError(
            f"{where}: expected a plain address, found {found}. An address must not hold credentials; set them by "
            "environment variables or a role"
        )


def resolve_address(address: str, where: str) -> str:
    """`normalise_address` for an address that must not contain credentials.

    Raises:
        ConfigError: it contains credentials; see `check_no_credentials`.
    """
    check_no_credentials(address, where)
    return normalise_address(address)


def normalise_address(address: str) -> str:
    """Returns the canonical spelling of an address: absolute local paths, URIs without a trailing slash.

    The three forms of `file:`, `~`, `..` and `.` are resolved; s3a:// and s3n:// become s3://. A `..` after a symbolic
    link is relative to the link's target, as in the system itself.
    """
    file = _FILE.fullmatch(address)
    uri = None if file else _SCHEME.fullmatch(address)
    if uri:
        scheme, rest = uri[1].lower(), uri[2].rstrip("/")
        return f"{'s3' if scheme in _S3_SCHEMES else scheme}://{rest}"
    path = local_part(address)
    return os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path).replace("//", "/")


def local_part(address: str) -> str:
    """Returns the path of a local address, relative or not: without `file:`, and with `~` as the home folder."""
    file = _FILE.fullmatch(address)
    path = file[1] if file else address
    if file and "%" in path and not os.path.lexists(path):
        path = unquote(path)
    return os.path.expanduser(path) if path.startswith("~") and not os.path.lexists(path) else path


def local_path(address: str | Path, where: str) -> Path:
    """Returns the path of a local file or folder.

    Raises:
        ConfigError: the address is not on this machine.
    """
    path = normalise_address(str(address))
    # pathlib keeps one slash of two: s3://bucket becomes s3:/bucket.
    remote = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+):/", str(address))
    if _SCHEME.fullmatch(path) or (remote and remote[1].lower() != "file" and not os.path.lexists(str(address))):
        raise ConfigError(f"{where} {address}: expected a path on this machine")
    return Path(path)


def resolve_distinct(addresses: Sequence[str], flag: str) -> tuple[str, ...]:
    """Resolves all addresses with `resolve_address`.

    Raises:
        ConfigError: one contains credentials, or two are the same location.
    """
    resolved: dict[str, str] = {}
    for address in addresses:
        place = resolve_address(address, flag)
        if place in resolved:
            raise ConfigError(f"{flag}: {resolved[place]!r} and {address!r} are the same place; name it once")
        resolved[place] = address
    return tuple(resolved)


def key_below(name: str, root: str) -> str:
    """Returns an image's name without the leading root, if it starts with the root in any spelling; else the name.

    Args:
        name: path or URI, relative or not.
        root: normalised address of the root.
    """
    front = f"{root.rstrip('/')}/"
    if name.startswith(front):
        return name[len(front) :]
    if re.match(r"(?i:file|s3|s3a|s3n):/", name):
        return normalise_address(name).removeprefix(front)
    return name.removeprefix("./")


def with_addresses(settings: Any, key: str = "") -> Any:
    """Returns settings (JSON values) with all addresses in them normalised, for comparison."""
    if isinstance(settings, Mapping):
        here = key in _ADDRESS_KEYS
        return {(normalise_address(k) if here else k): with_addresses(value, k) for k, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [with_addresses(value, key) for value in settings]
    return normalise_address(settings) if isinstance(settings, str) and settings and key in _ADDRESS_KEYS else settings
