"""A grid of judged images, true against predicted values; drawn only on request, since it copies images."""

from typing import Any

import matplotlib.figure
import numpy as np
import pyarrow as pa

from faceattr.attributes import Attribute, AttributeSet
from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import decode_image
from faceattr.data.packed.reader import PackedData
from faceattr.errors import ImageError
from faceattr.reports.plots.evaluation import draw_samples

_NUM_SAMPLES = 24


def draw_sample_grid(
    packed: PackedData, predicted: pa.Table, attributes: AttributeSet, *, split: str, limits: ImageLimitsConfig
) -> matplotlib.figure.Figure:
    """Draws the first images of a split, in row order.

    Args:
        packed: the data.
        predicted: rows with `predicted_<name>` in addition to the label columns.
        attributes: attributes to name; unlabelled ones are left out of a row's caption.
        split: the judged split.
        limits: limits on the size of an image.
    """
    rows = {row["image_id"]: row for row in predicted.to_pylist() if row["split"] == split}
    images: list[np.ndarray] = []
    captions: list[tuple[str, bool]] = []
    for table in packed.iter_split(split, ["image_id", "image"]):
        for each in table.to_pylist():
            if len(images) == _NUM_SAMPLES:
                return draw_samples(images, captions)
            if each["image_id"] not in rows:
                continue
            try:
                images.append(decode_image(each["image"], limits))
            except ImageError:  # it is among the rejects, with its reason
                continue
            captions.append(_caption(rows[each["image_id"]], attributes))
    return draw_samples(images, captions)


def _caption(row: dict[str, Any], attributes: AttributeSet) -> tuple[str, bool]:
    lines, all_right = [], True
    for attribute in attributes.attributes:
        words = _words(row, attribute)
        if words is not None:
            lines.append(words[0])
            all_right &= words[1]
    return "\n".join(lines), all_right


def _words(row: dict[str, Any], attribute: Attribute) -> tuple[str, bool] | None:
    name, said = attribute.name, row[f"predicted_{attribute.name}"]
    if attribute.is_years:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        if low is None:
            return None
        right = low <= said < high or (high - low <= 1 and abs(said - low) <= 5)
        true = f"{low:.0f}" if high - low <= 1 else f"{low:.0f}-{high - 1:.0f}"
        return f"{name} {true} / {said:.0f}", right
    if row[name] is None:
        return None
    classes = attribute.classes
    return f"{name} {classes[row[name]]} / {classes[said]}", row[name] == said
