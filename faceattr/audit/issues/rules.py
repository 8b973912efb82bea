"""The rules of derived attributes that a packed run has labels of, and what they say of its rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import AttributeSet, DerivedAttribute
from faceattr.config import StorageConfig
from faceattr.data.runs.run_attributes import read_attribute_set
from faceattr.data.runs.version import RunRecord, read_record
from faceattr.data.stores.addresses import resolve_address
from faceattr.data.stores.open import open_store
from faceattr.training.features.out_of_fold import NO_LABEL


def read_rules(record: RunRecord, attributes: AttributeSet, storage: StorageConfig) -> tuple[DerivedAttribute, ...]:
    """Returns the rules of the label runs behind a packed run, as far as these runs are still in their places.

    Args:
        record: run.json of the packed run.
        attributes: attributes of the packed run; a rule counts if the derived attribute and its inputs are among them.
        storage: how the label runs are reached.
    """
    binary = {each.name for each in attributes.attributes if each.is_yes_no}
    found: dict[str, DerivedAttribute] = {}
    for uri in record.fingerprint.get("labels", {}):
        labels = read_record(open_store(resolve_address(uri, "--labels"), storage))
        for rule in () if labels is None else read_attribute_set(labels).derived:
            if binary.issuperset((rule.name, *rule.inputs)):
                found.setdefault(rule.name, rule)
    return tuple(found.values())


def evaluate_rule(rule: DerivedAttribute, rows: pa.Table) -> np.ndarray:
    """Returns what a rule says of each row, int64 [n]; NO_LABEL where the labels do not decide it."""
    inputs = np.stack([class_indices(rows, name) for name in rule.inputs], 1)
    combinations, place = np.unique(inputs, axis=0, return_inverse=True)
    values = []
    for combination in combinations.tolist():
        known = {
            name: None if value == NO_LABEL else value for name, value in zip(rule.inputs, combination, strict=True)
        }
        value = rule.evaluate(known)
        values.append(NO_LABEL if value is None else value)
    return np.array(values, np.int64)[place.ravel()]


def class_indices(rows: pa.Table, name: str) -> np.ndarray:
    """Returns int64 [n]; NO_LABEL where there is no label, or one that leaves several classes possible."""
    return np.array(pc.fill_null(rows[name].cast(pa.int64()), NO_LABEL).to_numpy())  # a copy: torch needs one
