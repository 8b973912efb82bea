"""The check of config values; its error names the key, what was found and what is allowed."""

from typing import Any, get_args

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


def check_choice(key: str, found: str, choices: Any) -> None:
    """Raises ConfigError unless the value is one of a Literal's."""
    check(found in get_args(choices), key, found, f"one of {', '.join(get_args(choices))}")


def flag_name(field: str) -> str:
    """Returns the name of a field as a flag has it."""
    return field.replace("_", "-")
