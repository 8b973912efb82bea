"""What every store speaks of: objects, and the absence of one."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """One listed object.

    Attributes:
        key: relative to the store's root, with `/`.
        num_bytes: size.
        etag: changes when the content does; None where the store has none.
        modified_s: last modification by the store's clock, Unix seconds.
    """

    key: str
    num_bytes: int
    etag: str | None
    modified_s: float


class MissingObjectError(Exception):
    """There is no object under this key: proven by the store's own answer, never concluded from silence."""
