"""The one check of a config's values: its error names the key, what was found and what is allowed."""

from faceattr.errors import ConfigError


def check(holds: bool, key: str, found: object, allowed: str) -> None:
    """Raises ConfigError unless `holds`.

    Args:
        holds: whether the value is allowed.
        key: dotted name of the flag, without the dashes in front.
        found: the value.
        allowed: what would have been accepted, in words.
    """
    if not holds:
        raise ConfigError(f"--{key}: expected {allowed}, found {found!r}")
