"""The strips of an audit's report: for each attribute the worst mistakes, and the most doubtful and surest scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from faceattr.attributes import Attribute
from faceattr.audit.folder import Sample
from faceattr.audit.images import ItemImages
from faceattr.audit.judgements import ReviewerAnswer
from faceattr.audit.verdicts import settle
from faceattr.config import ImageLimitsConfig
from faceattr.reports.strips.extremes import STRIP_LENGTH, Extremes
from faceattr.reports.strips.images import Strip, Thumbnail, draw_strips


def draw_audit_strips(
    sample: Sample, judgements: Sequence[ReviewerAnswer], images: ItemImages, limits: ImageLimitsConfig
) -> dict[str, list[Strip[int]]]:
    """Returns attribute -> strips of its items, listed ones included.

    Args:
        sample: the audit.
        judgements: all answers.
        images: the audit's images.
        limits: bounds of one image.

    Raises:
        RunError: a file with images is damaged.
        StorageError: a store does not answer.
    """
    settled = settle(judgements)
    found = {}
    for audited in sample.audit.attributes:
        of = sample.items
        items = of.filter(pc.and_(pc.equal(of["attribute"], audited.attribute.name), of["score"].is_valid()))
        extremes = Extremes(audited.attribute, audited.decision)
        extremes.add(items)
        strips = {"Worst mistakes": _worst(items, settled, extremes), **extremes.strips()}
        found[audited.attribute.name] = draw_strips(
            [
                Strip(title=title, thumbnails=[_describe(row, settled, audited.attribute) for row in rows.to_pylist()])
                for title, rows in strips.items()
            ],
            images.read,
            limits,
        )
    return found


def _is_mistake(label: int | None, answer: int | None) -> bool:
    return label is not None and answer is not None and label != answer


def _worst(items: pa.Table, settled: Mapping[int, int | None], extremes: Extremes) -> pa.Table:
    """Returns the items that people say otherwise of, those with the surest scores first."""
    pairs = zip(items["item"].to_pylist(), items["label"].to_pylist(), strict=True)
    wrong = items.filter(pa.array([_is_mistake(label, settled.get(item)) for item, label in pairs], pa.bool_()))
    order = np.argsort(-extremes.distances(wrong["score"].to_numpy().astype(np.float64)), kind="stable")
    return wrong.take(pa.array(order[:STRIP_LENGTH]))


def _describe(row: Mapping[str, Any], settled: Mapping[int, int | None], attribute: Attribute) -> Thumbnail[int]:
    label, answer = row["label"], settled.get(row["item"])
    words = "no label" if label is None else attribute.classes[label]
    judged = "" if answer is None else f", is {attribute.classes[answer]}"
    return Thumbnail(
        image=row["item"], caption=f"{row['score']:.3f}\n{words}{judged}", is_mistake=_is_mistake(label, answer)
    )
