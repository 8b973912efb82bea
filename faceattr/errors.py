"""Errors that users see. Their text says what was expected, what was found, where, and what to do.

File names come from others, and a terminal interprets control characters in them: `escape` makes them plain text.
"""

import re

# Control characters (C0, DEL, C1), surrogates (bytes that are not valid UTF-8), line and paragraph separators,
# and the marks that reverse the direction of text (Unicode's list for "Trojan Source", CVE-2021-42574).
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SURROGATE_OF_BYTE = range(0xDC80, 0xDD00)


class FaceattrError(Exception):
    """Base class of all errors that are shown as one message, without a traceback."""

    exit_code = 1


class ConfigError(FaceattrError):
    """The command cannot start as given: a flag, a file or a combination of them is wrong."""

    exit_code = 2


class RunError(FaceattrError):
    """A run stopped; committed data are kept, and the text says how to resume."""


class DivergedError(RunError):
    """The training loss or weights are not finite, on every worker; a retry would end the same way."""


class StorageError(FaceattrError):
    """The store did not answer, or refused, until the deadline. Never a statement about a single image."""


class EndpointError(FaceattrError):
    """A labelling server did not answer until the deadline. Never a statement about a single image."""


class ModelError(FaceattrError):
    """A checkpoint cannot be loaded or computes wrong numbers."""

    exit_code = 2


class ImageError(Exception):
    """One image cannot be used, for a permanent reason in the image itself.

    Attributes:
        reason: one word of `faceattr.data.images.decode.REASONS`, stored in the row's `status`.
        detail: what was found, stored in the row's `error`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)


def escape(text: object, *, keep: str = "") -> str:
    r"""Returns text that is safe in a terminal or a log: control characters are written out, ESC as `\x1b`.

    Args:
        text: a name, or a message that contains names.
        keep: control characters that stay, such as the line breaks of our own messages.
    """

    def written_out(found: re.Match[str]) -> str:
        character = found[0]
        if character in keep:
            return character
        code = ord(character)
        if code in _SURROGATE_OF_BYTE:  # how Python represents a file-name byte that is not UTF-8
            return f"\\x{code - 0xDC00:02x}"
        return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(
            character, f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
        )

    return _CONTROL.sub(written_out, str(text))
