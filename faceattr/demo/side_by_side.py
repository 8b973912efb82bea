"""Result page of the demo: true labels, BLIP's labels and the student's predictions for the same drawn faces."""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from sklearn.metrics import precision_recall_fscore_support

from faceattr.reports.pages import render_page

_NUM_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Quality of labels or predictions, compared with the true labels.

    Attributes:
        attribute: name of the attribute.
        precision: precision of label 1.
        recall: recall of label 1.
        f1: F1 of label 1.
        num_images: number of images with a label.
    """

    attribute: str
    precision: float
    recall: float
    f1: float
    num_images: int


def measure_quality(truth: pa.Table, found: pa.Table, attributes: Sequence[str]) -> list[Quality]:
    """Computes precision, recall and F1 with sklearn over the images that have a label.

    Args:
        truth: image_path and one 0/1 column per attribute.
        found: image_id and one nullable 0/1 column per attribute; only images in `truth` count.
        attributes: names of the attributes.
    """
    ours = {row["image_id"]: row for row in found.to_pylist()}
    qualities = []
    for name in attributes:
        pairs = [(row[name], ours[row["image_path"]][name]) for row in truth.to_pylist() if row["image_path"] in ours]
        expected, labels = zip(*((true, label) for true, label in pairs if label is not None), strict=True)
        precision, recall, f1, _ = precision_recall_fscore_support(expected, labels, average="binary")
        qualities.append(Quality(attribute=name, precision=precision, recall=recall, f1=f1, num_images=len(labels)))
    return qualities


def describe_quality(qualities: Sequence[Quality]) -> str:
    """Returns a table for the terminal."""
    lines = [f"{'':14}precision  recall    F1   images"]
    lines += [
        f"{each.attribute:14}{each.precision:9.3f}{each.recall:8.3f}{each.f1:8.3f}{each.num_images:7}"
        for each in qualities
    ]
    return "\n".join(lines)


def write_side_by_side(
    path: Path,
    *,
    truth: pa.Table,
    labels: pa.Table,
    predictions: pa.Table,
    attributes: Sequence[str],
    held_out: Collection[str],
    pictures: Mapping[str, bytes],
    links: Mapping[str, str],
) -> None:
    """Writes the page with the images embedded, which is acceptable for drawings but not for photographs of people.

    Args:
        path: path of the page.
        truth: image_path and the true attributes.
        labels: image_id and BLIP's labels.
        predictions: image_id, the student's predictions and scores.
        attributes: names of the attributes, all binary.
        held_out: image ids that the student was not trained on; only these are shown and counted.
        pictures: image id -> JPEG bytes.
        links: title -> file next to the page.
    """
    seen = truth.filter(pa.array([image_id in held_out for image_id in truth["image_path"].to_pylist()]))
    ours = {row["image_id"]: row for row in labels.to_pylist()}
    predicted = {row["image_id"]: row for row in predictions.to_pylist()}
    faces = [
        _face(row, ours, predicted, attributes, pictures) for row in seen.to_pylist() if row["image_path"] in predicted
    ]
    faces.sort(key=lambda face: -face["num_wrong"])
    page = render_page(
        "side_by_side.html",
        package="faceattr.demo",
        faces=faces[:_NUM_SHOWN],
        num_held_out=len(faces),
        num_faces=len(truth),
        qualities=[
            (label, student)
            for label, student in zip(
                measure_quality(seen, labels, attributes), measure_quality(seen, predictions, attributes), strict=True
            )
        ],
        links=links,
    )
    path.write_text(page, encoding="utf-8")


def _face(
    truth: Mapping[str, Any],
    labels: Mapping[str, Mapping[str, Any]],
    predictions: Mapping[str, Mapping[str, Any]],
    attributes: Sequence[str],
    pictures: Mapping[str, bytes],
) -> dict[str, Any]:
    image_id = truth["image_path"]
    rows = [
        {
            "name": name,
            "truth": truth[name],
            "label": labels[image_id][name],
            "prediction": predictions[image_id][name],
            "score": predictions[image_id][f"{name}_score"],
        }
        for name in attributes
    ]
    return {
        "image_id": image_id,
        "picture": "data:image/jpeg;base64," + base64.b64encode(pictures[image_id]).decode(),
        "rows": rows,
        "num_wrong": sum((row["label"] != row["truth"]) + (row["prediction"] != row["truth"]) for row in rows),
    }
