"""What people said of an audit's lists: how often the table is right among such rows. No figure of the whole table."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from faceattr.audit.folder import GIVEN, ISSUE, OTHER, RIGHTLY_REJECTED, RowList, Sample

_WORDS = {GIVEN: "given labels differ", OTHER: "another run differs", ISSUE: "listed as an issue"}


@dataclass(frozen=True, kw_only=True)
class ListCounts:
    """The judgements of one list.

    Attributes:
        rows: the list.
        num_right: rows of which people say what the table says, or that they were rejected rightly.
        num_wrong: rows of which they say another class, or that the image could have been used.
        num_unsure: rows that they could not tell.
        num_left: rows that nobody has judged.
    """

    rows: RowList
    num_right: int
    num_wrong: int
    num_unsure: int
    num_left: int

    @property
    def title(self) -> str:
        """The list in words."""
        return describe_list(self.rows.attribute, self.rows.reason)


def describe_list(attribute: str, reason: str) -> str:
    """Returns a title, such as `hat: given labels differ`; the reason of rejected rows is their status."""
    return f"{attribute}: {_WORDS.get(reason, reason)}"


def count_lists(sample: Sample, settled: Mapping[int, int | None]) -> tuple[ListCounts, ...]:
    """Counts the answers to the items of each list.

    Args:
        sample: the audit.
        settled: item -> answer, None if people cannot tell; see `faceattr.audit.verdicts.settle`.
    """
    found = []
    for rows in sample.audit.lists:
        of = sample.items
        items = of.filter(pc.and_(pc.equal(of["attribute"], rows.attribute), pc.equal(of["reason"], rows.reason)))
        numbers, labels = items["item"].to_pylist(), items["label"].to_pylist()
        expected = [1] * len(labels) if rows.attribute == RIGHTLY_REJECTED else labels
        judged = [(settled[item], label) for item, label in zip(numbers, expected, strict=True) if item in settled]
        known = [answer == label for answer, label in judged if answer is not None]
        found.append(
            ListCounts(
                rows=rows,
                num_right=sum(known),
                num_wrong=len(known) - sum(known),
                num_unsure=len(judged) - len(known),
                num_left=len(items) - len(judged),
            )
        )
    return tuple(found)
