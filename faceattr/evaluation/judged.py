"""Labelled rows of one attribute with the model's outputs, scores and predictions.

No image may be judged that chose a threshold, a calibration or a weight: the rows of two splits are disjoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.errors import RunError
from faceattr.evaluation.decisions import decide_kept
from faceattr.evaluation.uncertainty.clusters import Resampling, read_clusters


@dataclass(frozen=True, kw_only=True)
class JudgedRows:
    """n labelled rows of one attribute.

    Attributes:
        attribute: the attribute.
        rows: int64 [n], their row indices in the scored table.
        labels: binary, multiclass, identity: int64 [n]; age: float64 [n, 2], low <= age < high, in years.
        outputs: model outputs: binary float32 [n] logits; multiclass float32 [n, C] logits; identity int64 [n, 5], the
            top five persons; age float32 [n] years.
        scores: binary float64 [n] P(yes); multiclass float64 [n, C]; identity float64 [n] of the top person; age [n].
        predictions: int64 [n] class index, or float64 [n] years.
        coarse: multiclass only: rows whose label leaves several classes possible, as (bool [m, C], predictions [m]).
        clusters: int64 [n], equal for rows that belong together (see `clusters.py`); None if rows are independent.
        coarse_clusters: the same for the m coarse rows.
    """

    attribute: Attribute
    rows: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    scores: np.ndarray
    predictions: np.ndarray
    coarse: tuple[np.ndarray, np.ndarray] | None = None
    clusters: np.ndarray | None = None
    coarse_clusters: np.ndarray | None = None

    @property
    def resampling(self) -> Resampling:
        """Independent units behind the intervals."""
        return Resampling(len(self) if self.clusters is None else len(np.unique(self.clusters)), len(self))

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, chosen: np.ndarray) -> "JudgedRows":
        """Selects rows by index or mask, without the coarse rows."""
        return JudgedRows(
            attribute=self.attribute,
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            outputs=self.outputs[chosen],
            scores=self.scores[chosen],
            predictions=self.predictions[chosen],
            clusters=None if self.clusters is None else self.clusters[chosen],
        )


def read_judged(
    table: pa.Table,
    attribute: Attribute,
    *,
    scores: np.ndarray,
    thresholds: Mapping[str, float],
) -> JudgedRows:
    """Reads the rows of a scored table whose label of the attribute is known.

    Args:
        table: N rows, with label columns and `output_columns`.
        attribute: the attribute; `faceattr.data.sources.source` defines its label columns.
        scores: [N] or [N, C], calibrated scores of all rows; for an identity the certainty.
        thresholds: binary attribute -> threshold.

    Raises:
        RunError: an output is not finite, or a label is out of range.
    """
    name = attribute.name
    outputs = read_outputs(table, attribute)
    if not np.isfinite(outputs).all() or not np.isfinite(scores).all():
        raise RunError(f"attribute {name!r}: the model's outputs are not finite; check that the model was trained")
    known, labels = _read_labels(table, attribute)
    predictions = decide_kept(attribute, outputs, scores, thresholds)
    if attribute.is_years:
        predictions = predictions.astype(np.float64)
    clusters = read_clusters(table)
    coarse = coarse_clusters = None
    if attribute.can_be_coarse and f"{name}_mask" in table.column_names:
        # Nulls are filled first: NumPy would store the column as float64, which is exact up to 53 classes only.
        bits = table[f"{name}_mask"].fill_null(0).to_numpy(zero_copy_only=False)
        masked = table[f"{name}_mask"].is_valid().to_numpy(zero_copy_only=False)
        if masked.any():
            possible = (bits[masked].astype(np.int64)[:, None] >> np.arange(len(attribute.classes))) & 1
            coarse = possible.astype(bool), predictions[masked]
            coarse_clusters = None if clusters is None else clusters[masked]
    return JudgedRows(
        attribute=attribute,
        rows=np.flatnonzero(known),
        labels=labels[known],
        outputs=outputs[known],
        scores=scores[known].astype(np.float64),
        predictions=predictions[known],
        coarse=coarse,
        clusters=None if clusters is None else clusters[known],
        coarse_clusters=coarse_clusters,
    )


def read_outputs(table: pa.Table, attribute: Attribute) -> np.ndarray:
    """Returns the model's outputs for all rows; see `JudgedRows.outputs`."""
    column = table[f"output_{attribute.name}"].combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        values = flat.reshape(len(column), column.type.list_size)
        return values.astype(np.int64) if attribute.is_person else values
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _read_labels(table: pa.Table, attribute: Attribute) -> tuple[np.ndarray, np.ndarray]:
    """Returns which rows have a label, bool [N], and the labels of all rows, 0 where missing."""
    name = attribute.name
    if attribute.is_years:
        low, known = _numbers(table, f"{name}_low")
        high, _ = _numbers(table, f"{name}_high")
        return known, np.stack([low, high], 1)
    values, known = _numbers(table, name)
    labels = values.astype(np.int64)
    if len(labels[known]) and not 0 <= labels[known].min() <= labels[known].max() < len(attribute.classes):
        raise RunError(f"attribute {name!r}: a label is outside its {len(attribute.classes)} classes")
    return known, labels


def _numbers(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    column: Any = table[name]
    known = column.is_valid().to_numpy(zero_copy_only=False)
    return column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64), known


_SHOWN = 3


def check_disjoint(judged: pa.Table, others: pa.Table, *, judged_name: str, others_name: str) -> None:
    """Raises RunError if two sets of rows share a row of the packed data or an image with equal bytes.

    Args:
        judged: table with the columns run, row, image_id, sha256.
        others: table with the same columns.
        judged_name: name of the first set, for the message.
        others_name: name of the second set.
    """
    rows = [set(zip(each["run"].to_pylist(), each["row"].to_pylist(), strict=True)) for each in (judged, others)]
    if rows[0] & rows[1]:
        run, row = min(rows[0] & rows[1])
        raise RunError(
            f"{len(rows[0] & rows[1])} rows are in {judged_name} and in {others_name}, such as row {row} of run {run}: "
            f"settings fitted on {others_name} must not be evaluated on its own rows"
        )
    known = set(others["sha256"].drop_null().to_pylist())
    same = np.array([digest in known for digest in judged["sha256"].to_pylist()], bool)
    if same.any():
        shown = ", ".join(judged["image_id"].filter(pa.array(same)).slice(0, _SHOWN).to_pylist())
        raise RunError(
            f"{int(same.sum())} images of {judged_name} are in {others_name} too, byte for byte, such as {shown}: "
            "figures on them would be too good. Pack the data again with `faceattr pack`, which keeps equal images "
            "in one split; several runs that share images must be packed as one"
        )
