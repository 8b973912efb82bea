"""The check of config values; its error names the key, what was found and what is allowed."""

from faceattr.errors import ConfigError


def check(holds: bool, key: str, found: object, allowed: str) -> None:
    """Raises ConfigError unless `holds`.

    Args:
        holds: whether the value is allowed.
        key: dotted name of the flag, without the leading dashes.
        found: the value.
        allowed: the accepted values, in words.
    """
    if not holds:
        raise ConfigError(f"--{key}: expected {allowed}, found {found!r}")
