"""Addresses that users give: of folders, tables, models and single images.

Credentials come from each process's environment or role, never from an address: addresses are printed, logged, pickled
into tasks and saved with outputs. `check_no_credentials` is the one check for all of them.
"""

import re
from urllib.parse import unquote

from faceattr.errors import ConfigError

# A scheme and the authority behind it. At the start one slash will do, which is what pathlib leaves of two. A drive of
# Windows has one letter, so a scheme has more.
_AUTHORITY = re.compile(r"(?:(?:^|(?<==))(?P<first>[a-z][a-z0-9+.-]+):/|(?P<any>[a-z][a-z0-9+.-]+)://)/*([^/?#\s]*)")
_PARAMETER = re.compile(r"[?&;#]\s*([\w.-]+)\s*=\s*[^&;#\s]")
_SECRET_NAME = re.compile(
    r"(?:signature|token|secret|passw(?:or)?d|passphrase|pwd|credentials?|accessid|hmac|rlkey"
    r"|(?:api|access|account|private|shared|secret|storage|sas)[-_.]?key(?:[-_.]?id)?"
    r"|\b(?:sig|sign|sas|jwt|auth|authorization|bearer))$"
)
_S3_SCHEMES = frozenset(["s3", "s3a", "s3n"])
# Schemes in whose addresses the name before `@` says which container or user, and is no secret by itself.
_NAMED_SCHEMES = frozenset(["abfs", "abfss", "wasb", "wasbs", "az", "adl", "hdfs", "viewfs", "sftp", "ssh"])


def find_credentials(address: str) -> str | None:
    """What an address holds that nobody else should read, in words that do not repeat it; None if nothing.

    Found are a user and password (or key) before `@`, and the parameters of signed links and tokens behind `?`. The
    container of `abfss://container@account.dfs.core.windows.net` is no credential.
    """
    text = address.strip()
    if not (":" in text or "=" in text or "%" in text):
        return None  # at once for most: this is asked of every row of a table
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
    # A secret may hold a slash, so that its `@` comes late: in https://user:se/cret@host the colon gives it away.
    _, colon, port = host.rpartition("]")[2].partition(":")
    return bool(colon) and not (port.isascii() and port.isdigit())


def check_no_credentials(address: str, where: str) -> None:
    """Refuses an address that holds credentials.

    Args:
        address: of anything; also a plain path, or a name of an image.
        where: what the user reads first, such as `--images` or a manifest and its row.

    Raises:
        ConfigError: it does. The text names the place and not the secret.
    """
    found = find_credentials(address)
    if found is not None:
        raise ConfigError(
            f"{where}: expected a plain address, found {found}. An address must not hold credentials; give them by "
            "environment variables or a role"
        )
