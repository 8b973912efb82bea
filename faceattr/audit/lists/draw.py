"""Draws the lists of an audit: rows that are worth a look for another reason than their score.

    given       the table's label differs from the one that somebody gave
    other       it differs from that of another run
    issue       it differs from what `faceattr audit issues` suggests
    a status    the image was rejected: `no_face`, `corrupt` and so on

Each list is drawn at random from all rows of its kind, and stays apart from the random sample of scores: it says what
is right among such rows, and nothing of the others. A row is listed once for an attribute, and not if the random
sample has it. Rejected rows have no labels; people judge whether they were rejected rightly.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute
from faceattr.audit.draw import LowestRows, describe_items, mix_bits, number_items, seed_bits
from faceattr.audit.folder import GIVEN, ISSUE, OTHER, RIGHTLY_REJECTED, AuditedAttribute, RowList, Sample
from faceattr.audit.lists.labels import NO_CLASS, OtherLabels
from faceattr.audit.scored_table import ScoredTable, read_scores
from faceattr.data.runs.commit import OK
from faceattr.data.runs.run_attributes import Decision
from faceattr.errors import ConfigError

_REASONS = {"--given": GIVEN, "--other": OTHER, "--issues": ISSUE}


def add_lists(table: ScoredTable, sample: Sample, others: Sequence[OtherLabels], *, rejects: bool, size: int) -> Sample:
    """Returns the sample with the lists behind its random draws, in one more pass over the table.

    Args:
        table: the audited table.
        sample: its random sample; its seed decides the lists too.
        others: labels to compare with.
        rejects: whether rejected rows are listed.
        size: most rows of each list.

    Raises:
        ConfigError: another table has none of the images, or an attribute has the name that judging rejects needs.
    """
    if rejects and RIGHTLY_REJECTED in table.attributes:
        raise ConfigError(f"--rejects: the table has an attribute {RIGHTLY_REJECTED!r}; leave it out by --attributes")
    lists = _Lists(table, sample, others, size)
    for rows in table.read():
        lists.add_conflicts(rows)
        if rejects:
            lists.add_rejects(rows)
    lists.check_matched()
    attributes = sample.audit.attributes
    if rejects:
        judged = AuditedAttribute(attribute=Attribute(name=RIGHTLY_REJECTED), decision=Decision(), strata=())
        attributes = (*attributes, judged)
    audit = replace(sample.audit, attributes=attributes, lists=tuple(lists.describe()))
    items = number_items([sample.items, *lists.items()])
    return Sample(audit=audit, items=items, scores=sample.scores)


class _Lists:
    """Collects the rows of all lists; their keys are (attribute, reason)."""

    def __init__(self, table: ScoredTable, sample: Sample, others: Sequence[OtherLabels], size: int) -> None:
        self._table = table
        self._others = others
        self._size = size
        self._seed = sample.audit.seed
        of = sample.items["attribute"]
        self._sampled = {name: sample.items.filter(pc.equal(of, name))["row"].to_numpy() for name in table.attributes}
        keys = [(name, each) for name in table.attributes for each in others if name in each.labels]
        self._addresses = {(name, _REASONS[each.flag]): each.address for name, each in keys}
        self._num_rows = dict.fromkeys(self._addresses, 0)
        self._takers = {key: LowestRows(size) for key in self._addresses}
        self._num_matched = dict.fromkeys((each.flag for each in others), 0)
        self._example = ""

    def add_conflicts(self, rows: pa.Table) -> None:
        numbers = rows["row"].to_numpy()
        places = {each.flag: each.find(rows["image_id"]) for each in self._others}
        for flag, found in places.items():
            self._num_matched[flag] += int((found >= 0).sum())
        if not self._example and len(rows):
            self._example = rows["image_id"][0].as_py()
        for name, attribute in self._table.attributes.items():
            scores, known = read_scores(rows, attribute)
            scores = np.where(known, scores, np.nan)
            ours = rows[name].cast(pa.int32()).fill_null(NO_CLASS).to_numpy()
            is_free = ~np.isin(numbers, self._sampled[name])
            for each in self._others:
                if name not in each.labels:
                    continue
                found = places[each.flag]
                theirs = np.where(found >= 0, each.labels[name][found], NO_CLASS)
                differs = (ours != theirs) & (ours != NO_CLASS) & (theirs != NO_CLASS)
                self._add((name, _REASONS[each.flag]), rows, differs, differs & is_free, scores)
                is_free &= ~differs

    def add_rejects(self, rows: pa.Table) -> None:
        scores = np.full(len(rows), np.nan)
        for reason in pc.unique(rows["status"]).to_pylist():
            if reason != OK:
                has_reason = np.asarray(pc.equal(rows["status"], reason))
                self._add((RIGHTLY_REJECTED, reason), rows, has_reason, has_reason, scores)

    def _add(
        self, key: tuple[str, str], rows: pa.Table, is_such: np.ndarray, is_free: np.ndarray, scores: np.ndarray
    ) -> None:
        self._num_rows[key] = self._num_rows.get(key, 0) + int(is_such.sum())
        here = np.flatnonzero(is_free)
        bits = seed_bits(self._seed, "/".join(key))
        priority = mix_bits(rows["row"].to_numpy().astype(np.uint64) ^ bits)
        self._takers.setdefault(key, LowestRows(self._size)).add(rows, here, priority[here], scores[here])

    def check_matched(self) -> None:
        """Raises ConfigError if another table has none of the images: most probably they are named differently."""
        for each in self._others:
            if not self._num_matched[each.flag]:
                raise ConfigError(
                    f"{each.flag} {each.address}: names none of the images of {self._table.address}, such as "
                    f"{self._example!r}; expected names below {self._table.root}"
                )

    def describe(self) -> list[RowList]:
        """Returns what audit.json says of the lists, conflicts first."""
        return [
            RowList(
                attribute=key[0],
                reason=key[1],
                other=self._addresses.get(key),
                num_rows=num_rows,
                num_listed=len(self._takers[key].priority),
            )
            for key, num_rows in self._num_rows.items()
        ]

    def items(self) -> list[pa.Table]:
        """Returns the items of each list, in random order."""
        found = []
        for (name, reason), taker in self._takers.items():
            if taker.rows is not None:
                has_label = name in self._table.attributes
                found.append(describe_items(name, taker, reason=reason, has_label=has_label))
        return found
