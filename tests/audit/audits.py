"""Audit folders for tests of what follows the sampling."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.audit.folder import SAMPLE_SCHEMA, Audit, AuditedAttribute, Sample, Stratum, write_sample
from faceattr.data.runs.run_attributes import Decision
from faceattr.data.stores.local import LocalStore

HAT = Attribute(name="hat")
HAIR = Attribute(name="hair", kind="multiclass", classes=("black", "brown", "blond"))


def write_audit(
    folder: Path,
    items: Sequence[Mapping[str, Any]],
    *,
    root: Any,
    attributes: Sequence[Attribute] = (HAT,),
    bytes_column: str | None = None,
) -> Sample:
    """Writes an audit of a table that nothing else is known of.

    Args:
        folder: the audit folder.
        items: columns of the sample; `attribute` is `hat`, `uri` is below the root, `score` .25 and `label` 0 unless
            they are given.
        root: where the images are.
        attributes: what was sampled.
        bytes_column: for images in Parquet files, their column.
    """
    usual = {"attribute": "hat", "score": 0.25, "label": 0, "reason": "score", "stratum": 0, "probability": 1.0}
    rows = [
        {**usual, "item": number, "row": number, "uri": f"{root}/{each['image_id']}", **each}
        for number, each in enumerate(items)
    ]
    audit = Audit(
        table=str(root),
        run_id=None,
        version=0,
        root=str(root),
        bytes_column=bytes_column,
        seed=0,
        attributes=tuple(
            AuditedAttribute(
                attribute=each,
                decision=Decision(),
                strata=(Stratum(low=0.0, high=1.0, num_rows=len(rows), num_sampled=len(rows)),),
            )
            for each in attributes
        ),
    )
    scores = pa.table({"attribute": ["hat"], "low": [0.0], "high": [1.0], "num_rows": [len(rows)]})
    sample = Sample(audit=audit, items=pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA), scores=scores)
    write_sample(LocalStore(folder), sample)
    return sample
