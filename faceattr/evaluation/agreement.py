"""Agreement of the labels of several runs over the same images: of predictions with BLIP's, or of several teachers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pyarrow as pa
from sklearn.metrics import cohen_kappa_score

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.joined.columns import labels_or_unknown
from faceattr.data.runs.run_attributes import read_run_attributes
from faceattr.data.runs.version import read_published, read_record
from faceattr.data.stores.store import Store
from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AttributeAgreement:
    """Agreement of two sets of labels of one attribute.

    Attributes:
        count: number of images with both labels.
        agreement: share of these images with equal labels; NaN if there are none.
        kappa: Cohen's kappa: 1 is full agreement, 0 is agreement by chance; NaN if all labels are one class.
        confusion: int64 [C, C]; rows are the other run's labels, columns are ours.
    """

    count: int
    agreement: float
    kappa: float
    confusion: np.ndarray


@dataclass
class Agreement:
    """Counts pairs of labels, table by table; memory grows by a few bytes per label of the other run.

    Attributes:
        where: URI of the other run.
        shared: attributes that both runs have.
        num_without: number of our rows whose image is not in the other run.
    """

    where: str
    shared: Mapping[str, Attribute]
    places: Mapping[str, int]
    labels: Mapping[str, np.ndarray]
    num_without: int = 0
    counts: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def open(cls, labels: Store, attributes: AttributeSet) -> "Agreement":
        """Reads the other run's labels; ages and identities are not compared.

        Raises:
            ConfigError: the store contains no published run.
        """
        record = read_record(labels)
        if record is None:
            raise ConfigError(f"{labels.uri} holds no run (no run.json)")
        theirs = read_run_attributes(record)
        ours = {each.name: each for each in attributes.attributes if each.has_class_scores}
        ours |= {rule.name: Attribute(name=rule.name) for rule in attributes.derived}
        shared = {name: each for name, each in ours.items() if name in theirs and theirs[name].classes == each.classes}
        table = pa.concat_tables(
            each.select(["image_id", *shared]) for each in read_published(labels, ["image_id", *shared])
        )
        return cls(
            where=labels.uri,
            shared=shared,
            places={name: place for place, name in enumerate(table["image_id"].to_pylist())},
            labels={name: labels_or_unknown(table[name]) for name in shared},
            counts={name: np.zeros((len(each.classes),) * 2, np.int64) for name, each in shared.items()},
        )

    def observe(self, table: pa.Table) -> None:
        """Adds a table of our rows."""
        places = np.array([self.places.get(name, -1) for name in table["image_id"].to_pylist()], np.int64)
        found = places >= 0
        self.num_without += int((~found).sum())
        for name, attribute in self.shared.items():
            mine = labels_or_unknown(table[name])[found]
            self.counts[name] += count_label_pairs(self.labels[name][places[found]], mine, len(attribute.classes))

    def finish(self) -> dict[str, AttributeAgreement]:
        """Returns attribute -> agreement of the two runs."""
        return {name: compare_counts(counts) for name, counts in self.counts.items()}

    def describe(self) -> str:
        """Returns the agreement as text, a line for each attribute."""
        lines = [f"agreement with {self.where}"]
        for name, each in self.finish().items():
            kappa = f", kappa {each.kappa:.3f}" if np.isfinite(each.kappa) else ""
            lines.append(f"  {name:20} {f'{each.agreement:.1%}' if each.count else '-'} of {each.count:,}{kappa}")
        return "\n".join(lines)


def count_label_pairs(first: np.ndarray, second: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns int64 [C, C], how often each pair of labels occurs, rows by the first one.

    Args:
        first: int64 [n], labels; -1 for a missing one, whose rows are left out.
        second: likewise.
        num_classes: C.
    """
    both = (first >= 0) & (second >= 0)
    pairs = first[both] * num_classes + second[both]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def compare_counts(counts: np.ndarray) -> AttributeAgreement:
    """Returns the agreement of two sets of labels from the counts of `count_label_pairs`."""
    total = int(counts.sum())
    if not total:
        return AttributeAgreement(count=0, agreement=float("nan"), kappa=float("nan"), confusion=counts)
    first, second = np.indices(counts.shape)
    # With a single class in both, chance alone agrees in all rows, and kappa is 0 / 0.
    is_constant = np.count_nonzero(counts.sum(0) + counts.sum(1)) == 1
    kappa = np.nan if is_constant else cohen_kappa_score(first.ravel(), second.ravel(), sample_weight=counts.ravel())
    return AttributeAgreement(
        count=total, agreement=float(np.trace(counts) / total), kappa=float(kappa), confusion=counts
    )


@dataclass(frozen=True, kw_only=True)
class PairAgreement:
    """Agreement of two of several runs about one attribute.

    Attributes:
        attribute: its name.
        first: number of the first run, from 1.
        second: number of the second run.
        agreement: how they agree.
    """

    attribute: str
    first: int
    second: int
    agreement: AttributeAgreement


class RunsAgreement:
    """Counts pairs of labels of every two of several runs, table by table; memory does not depend on the rows.

    Args:
        addresses: of the runs.
        attributes: what is compared.
    """

    def __init__(self, addresses: Sequence[str], attributes: Iterable[Attribute]) -> None:
        self.addresses = tuple(addresses)
        self._attributes = tuple(attributes)
        pairs = list(combinations(range(len(self.addresses)), 2))
        self._counts = {
            (each.name, *pair): np.zeros((len(each.classes),) * 2, np.int64)
            for each in self._attributes
            for pair in pairs
        }

    def observe(self, tables: Sequence[pa.Table]) -> None:
        """Adds rows of each run; row i of all tables is the same image."""
        for attribute in self._attributes:
            labels = [labels_or_unknown(table[attribute.name]) for table in tables]
            for first, second in combinations(range(len(tables)), 2):
                counts = count_label_pairs(labels[first], labels[second], len(attribute.classes))
                self._counts[attribute.name, first, second] += counts

    def finish(self) -> list[PairAgreement]:
        """Returns the agreement of each pair, attribute by attribute."""
        return [
            PairAgreement(attribute=name, first=first + 1, second=second + 1, agreement=compare_counts(counts))
            for (name, first, second), counts in self._counts.items()
        ]
