"""Labels a table again from its scores, with other thresholds."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import derive_labels
from faceattr.data.runs.run_attributes import Decision


def relabel(table: pa.Table, attributes: AttributeSet, decisions: Mapping[str, Decision]) -> pa.Table:
    """Returns the table with the labels that the decisions make; derived attributes follow, scores stay.

    Args:
        table: rows of a label or prediction run.
        attributes: the run's attributes with scores, and its rules.
        decisions: attribute -> decision; labels of others stay.
    """
    for name, decision in decisions.items():
        label = _decide(table[f"{name}_score"].combine_chunks(), attributes[name], decision)
        table = _replace(table, name, label)
    for rule in attributes.derived:
        table = _replace(table, rule.name, derive_labels(rule, {name: table[name] for name in rule.inputs}))
    return table


def _decide(scores: pa.Array, attribute: Attribute, decision: Decision) -> pa.Array:
    known = np.asarray(scores.is_valid())
    if attribute.has_threshold:
        values = scores.fill_null(0.0).to_numpy(zero_copy_only=False).astype(np.float64)
        label = values >= decision.threshold
        low, high = decision.abstain or (0.0, 0.0)
        known &= ~((values > low) & (values < high))
    else:
        values = np.zeros((len(scores), len(attribute.classes)))
        values[known] = scores.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, len(attribute.classes))
        label = values.argmax(1)
        known &= values.max(1) >= (decision.abstain[0] if decision.abstain else 0.0)
    return pa.array(label.astype(np.int64), mask=~known)


def _replace(table: pa.Table, name: str, labels: pa.Array) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, labels.cast(field.type))
