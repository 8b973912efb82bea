"""People's judgements of an audit's items: a log that is only ever appended to, one JSON object per line.

A line is {"item", "answer", "reviewer", "time_s", "schema_version"}. `answer` is a class index (0 no, 1 yes), or null:
the reviewer cannot tell. The last line of a reviewer about an item is the one that counts, so that a correction is one
more line. A last line without its line break was cut off when the machine stopped, and does not count.
"""

import fcntl
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from faceattr.data.formats.json_files import decode_fields, decode_versioned, encode_versioned
from faceattr.data.stores.store import MissingObjectError, Store

ANSWERS_KEY = "judgements.jsonl"


@dataclass(frozen=True, kw_only=True)
class ReviewerAnswer:
    """One answer.

    Attributes:
        item: number of the item in the sample.
        answer: class index; None if the reviewer cannot tell.
        reviewer: name of who judged.
        time_s: when, in seconds since 1970.
    """

    item: int
    answer: int | None
    reviewer: str
    time_s: float


def append_judgements(path: Path, judgements: Iterable[ReviewerAnswer]) -> None:
    """Appends lines and waits until the disk has them, so that no answer is lost when the process is killed.

    Several processes may append to one log.

    Args:
        path: the log; it is created if there is none.
        judgements: what to append.
    """
    lines = b"".join(encode_versioned(asdict(each)) + b"\n" for each in judgements)
    with path.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":  # an append that was cut off; its line must not be continued by ours
                lines = b"\n" + lines
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def decode_judgements(data: bytes, where: str) -> list[ReviewerAnswer]:
    """Returns the answers in the order in which they were given.

    Args:
        data: content of a log.
        where: name of the log in errors.

    Raises:
        RunError: a line other than one that was cut off is damaged.
        ConfigError: a later version of faceattr wrote it.
    """
    found = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if not line.endswith(b"}"):  # cut off: the object's end is the last byte of every whole line
            continue
        place = f"{where}, line {number},"
        found.append(decode_fields(ReviewerAnswer, decode_versioned(line, place), place))
    return found


def read_judgements(store: Store) -> list[ReviewerAnswer]:
    """Returns the answers of an audit folder in the order in which they were given; see `decode_judgements`."""
    try:
        data = store.get(ANSWERS_KEY)
    except MissingObjectError:
        return []
    return decode_judgements(data, f"{store.uri}/{ANSWERS_KEY}")


def standing_judgements(judgements: Iterable[ReviewerAnswer]) -> dict[tuple[str, int], ReviewerAnswer]:
    """Returns (reviewer, item) -> the last answer, in the order in which items were first judged."""
    return {(each.reviewer, each.item): each for each in judgements}
