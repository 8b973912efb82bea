"""How the labels and scores of two runs differ, counted table by table; memory does not depend on the rows.

The shift of a row's scores is the total variation distance of their probabilities, 1/2 sum_c |q_c - p_c|: for a binary
attribute the absolute difference of P(yes).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute
from faceattr.data.joined.columns import class_scores, labels_or_unknown
from faceattr.data.runs.commit import OK

# Columns of the list; `what` is an attribute, or `image`, `sha256` or `status`, which no attribute can be named.
LIST_COLUMNS = ("image_id", "what", "first", "second", "first_score", "second_score")


@dataclass
class AttributeDifferences:
    """The differences of one attribute, over the images that both runs labelled or left unlabelled.

    Attributes:
        attribute: the attribute.
        has_score: whether its scores are compared; a derived attribute has none.
        counts: int64 [C + 1, C + 1], how often each pair of labels occurs, rows by the first run; the last is unknown.
        num_scores: images that have a score in both runs.
        shift_sum: sum of the shifts of their scores.
        largest_shift: the largest shift.
        change_sum: sum of the second run's P(yes) minus the first one's, for a binary attribute.
    """

    attribute: Attribute
    has_score: bool
    counts: np.ndarray
    num_scores: int = 0
    shift_sum: float = 0.0
    largest_shift: float = 0.0
    change_sum: float = 0.0

    @property
    def known(self) -> np.ndarray:
        """Counts of the images with a label in both runs, int64 [C, C]."""
        return self.counts[:-1, :-1]

    @property
    def num_flips(self) -> int:
        """Images with different labels."""
        return int(self.known.sum() - np.trace(self.known))

    @property
    def num_lost(self) -> int:
        """Images that the first run alone labelled."""
        return int(self.counts[:-1, -1].sum())

    @property
    def num_gained(self) -> int:
        """Images that the second run alone labelled."""
        return int(self.counts[-1, :-1].sum())

    @property
    def num_different(self) -> int:
        """Images with another label, or with one in one run alone."""
        return self.num_flips + self.num_lost + self.num_gained

    def observe(self, first: pa.Table, second: pa.Table) -> np.ndarray:
        """Adds rows of images that both runs accepted. Returns which labels differ, bool [n]."""
        name, num = self.attribute.name, len(self.attribute.classes)
        ours, theirs = (labels_or_unknown(table[name]) for table in (first, second))
        pairs = (ours % (num + 1)) * (num + 1) + theirs % (num + 1)  # -1 becomes the last index
        self.counts += np.bincount(pairs, minlength=(num + 1) ** 2).reshape(num + 1, num + 1)
        if self.has_score:
            self._observe_scores(first[f"{name}_score"], second[f"{name}_score"])
        return np.asarray(ours != theirs)

    def _observe_scores(self, first: pa.ChunkedArray, second: pa.ChunkedArray) -> None:
        changes = class_scores(second, self.attribute) - class_scores(first, self.attribute)
        changes = changes[~np.isnan(changes).any(1)]
        shifts = np.abs(changes).sum(1) / 2
        self.num_scores += len(shifts)
        self.shift_sum += float(shifts.sum())
        self.largest_shift = max(self.largest_shift, float(shifts.max(initial=0.0)))
        self.change_sum += float(changes[:, 1].sum())


@dataclass
class RunDifferences:
    """The differences of two runs in what they say of the images that both have.

    Attributes:
        attributes: name -> differences.
        statuses: (status of the first run, of the second run) -> images, where they differ.
        num_compared: images that both runs accepted.
    """

    attributes: Mapping[str, AttributeDifferences]
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    num_compared: int = 0

    @classmethod
    def begin(cls, scored: Mapping[str, Attribute], derived: Mapping[str, Attribute]) -> "RunDifferences":
        """Returns counts of 0 for attributes with scores, and for derived ones, whose scores are not compared."""
        return cls(
            attributes={
                name: AttributeDifferences(
                    attribute=each,
                    has_score=name in scored,
                    counts=np.zeros((len(each.classes) + 1,) * 2, np.int64),
                )
                for name, each in {**scored, **derived}.items()
            }
        )

    def observe(self, first: pa.Table, second: pa.Table) -> Iterator[pa.Table]:
        """Adds rows of the first run and the second one's for the same images, null where it has none.

        Yields tables of `LIST_COLUMNS`, all of them texts but the scores: one row for each difference.
        """
        found = second["image_id"].is_valid()
        yield _list_rows(first.filter(pc.invert(found))["image_id"], "image", "present", None)
        first, second = first.filter(found), second.filter(found)
        changed = pc.fill_null(pc.not_equal(first["sha256"], second["sha256"]), False)
        yield _list_pairs(first.filter(changed), second.filter(changed), "sha256")
        differs = pc.not_equal(first["status"], second["status"])
        pairs = [table.filter(differs)["status"].to_pylist() for table in (first, second)]
        self.statuses.update(zip(*pairs, strict=True))
        yield _list_pairs(first.filter(differs), second.filter(differs), "status")
        both = pc.and_(pc.equal(first["status"], OK), pc.equal(second["status"], OK))
        first, second = first.filter(both), second.filter(both)
        self.num_compared += len(first)
        for each in self.attributes.values():
            rows = pa.array(each.observe(first, second))
            yield _list_labels(first.filter(rows), second.filter(rows), each)


def list_extra(second: pa.Table) -> pa.Table:
    """Returns the list's rows for images that the second run alone has."""
    return _list_rows(second["image_id"], "image", None, "present")


def _list_rows(names: pa.ChunkedArray, what: str, first: str | None, second: str | None) -> pa.Table:
    texts = [pa.array([text] * len(names), pa.string()) for text in (what, first, second)]
    return _list([names, *texts])


def _list_pairs(first: pa.Table, second: pa.Table, name: str) -> pa.Table:
    return _list([first["image_id"], pa.array([name] * len(first), pa.string()), first[name], second[name]])


def _list_labels(first: pa.Table, second: pa.Table, found: AttributeDifferences) -> pa.Table:
    name, classes = found.attribute.name, pa.array(found.attribute.classes)
    labels = [classes.take(table[name].combine_chunks()) for table in (first, second)]
    columns = [first["image_id"], pa.array([name] * len(first), pa.string()), *labels]
    if found.has_score:
        for table in (first, second):
            scores = class_scores(table[f"{name}_score"], found.attribute)
            yes_or_largest = scores[:, 1] if found.attribute.is_yes_no else scores.max(1, initial=-np.inf)
            columns.append(pa.array(yes_or_largest, mask=np.isnan(yes_or_largest)))
    return _list(columns)


def _list(columns: list[pa.Array | pa.ChunkedArray]) -> pa.Table:
    empty = [pa.nulls(len(columns[0]), pa.float64())] * (len(LIST_COLUMNS) - len(columns))
    return pa.table([*columns, *empty], names=list(LIST_COLUMNS))
