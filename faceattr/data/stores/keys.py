"""URIs and keys: one joined from the other, and which keys a store refuses."""

import re

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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


def may_hold(folder_key: str, prefix: str) -> bool:
    """Whether keys below a folder can start with a prefix: one of the two starts with the other."""
    return folder_key.startswith(prefix) or prefix.startswith(folder_key)
