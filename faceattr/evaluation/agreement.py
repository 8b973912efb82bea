"""Agreement of predictions with the labels of another run over the same images, such as BLIP's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from sklearn.metrics import cohen_kappa_score

from faceattr.attributes import Attribute, AttributeSet
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
        kappa: Cohen's kappa: 1 is full agreement, 0 is agreement by chance.
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
            labels={name: _with_unknown(table[name]) for name in shared},
            counts={name: np.zeros((len(each.classes),) * 2, np.int64) for name, each in shared.items()},
        )

    def observe(self, table: pa.Table) -> None:
        """Adds a table of our rows."""
        places = np.array([self.places.get(name, -1) for name in table["image_id"].to_pylist()], np.int64)
        found = places >= 0
        self.num_without += int((~found).sum())
        for name, attribute in self.shared.items():
            mine, other = _with_unknown(table[name])[found], self.labels[name][places[found]]
            both = (mine >= 0) & (other >= 0)
            num = len(attribute.classes)
            self.counts[name] += np.bincount(other[both] * num + mine[both], minlength=num * num).reshape(num, num)

    def finish(self) -> dict[str, AttributeAgreement]:
        """Returns attribute -> agreement of the two runs."""
        return {name: _compute(counts) for name, counts in self.counts.items()}


def _compute(counts: np.ndarray) -> AttributeAgreement:
    total = int(counts.sum())
    if not total:
        return AttributeAgreement(count=0, agreement=float("nan"), kappa=float("nan"), confusion=counts)
    other, mine = np.indices(counts.shape)
    kappa = cohen_kappa_score(other.ravel(), mine.ravel(), sample_weight=counts.ravel())
    return AttributeAgreement(
        count=total, agreement=float(np.trace(counts) / total), kappa=float(kappa), confusion=counts
    )


def _with_unknown(column: pa.ChunkedArray) -> np.ndarray:
    """Returns the labels as int64 [n], with -1 for a missing label."""
    return np.asarray(column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64))
