"""URIs and keys: joining and splitting, and the check of keys."""

import re

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def join_uri(root: str, key: str) -> str:
    """Returns the URI of a key below a root."""
    return f"{root.rstrip('/')}/{key}"


def split_uri(uri: str) -> tuple[str, str]:
    """Splits an object's URI at the last slash into root and key."""
    root, slash, key = uri.rpartition("/")
    return (root or ("/" if slash else "."), key)


def check_key(key: str) -> str | None:
    """Returns why a key cannot be below a root, or None if it can."""
    if not key.strip():
        return "it is empty"
    if _SCHEME.match(key):
        return "it names a scheme, but all images must be under one root"
    if key.startswith("/"):
        return "it is an absolute path outside the root"
    if ".." in key.split("/"):
        return "it leaves the root with '..'"
    if _CONTROL.search(key):
        return "it contains control characters"
    return None


def may_hold(folder_key: str, prefix: str) -> bool:
    """Whether keys below a folder can start with a prefix, that is, one of the two starts with the other."""
    return folder_key.startswith(prefix) or prefix.startswith(folder_key)
