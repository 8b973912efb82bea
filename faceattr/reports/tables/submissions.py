"""Predictions in the layouts of two replaced systems: test_labels.txt (label lists), submission.csv (FaceCom)."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np

from faceattr.attributes import AttributeSet
from faceattr.data.sources.layouts.label_list import ListLayout
from faceattr.errors import ConfigError

PLAIN_LAYOUT = ListLayout(delimiter=" ", header=(), columns=("image", "label"), no="0")
"""`path label` lines, the usual form of a label list."""


def write_label_lines(image_ids: Sequence[str], labels: Mapping[str, np.ndarray], layout: ListLayout) -> str:
    """Returns test_labels.txt: predictions in the layout of the given list.

    Args:
        image_ids: [n], image paths or names.
        labels: binary attribute -> int64 [n], 0 or 1.
        layout: layout of the list; its columns must be the image and attributes of the model.

    Raises:
        ConfigError: the layout has a column that the model does not predict.
    """
    missing = [name for name in layout.attributes if name not in labels]
    if missing:
        raise ConfigError(
            f"--label-list has the columns {', '.join(layout.attributes)}, the model does not predict "
            f"{', '.join(missing)}; it predicts {', '.join(labels)}"
        )
    texts = (layout.no, "1")
    file = io.StringIO()
    writer = csv.writer(file, delimiter=layout.delimiter or ",", lineterminator="\n")
    spaced = layout.delimiter in ("", " ")
    if layout.header:
        file.write(layout.delimiter.join(layout.header) + "\n") if spaced else writer.writerow(layout.header)
    order = sorted(range(len(image_ids)), key=lambda place: image_ids[place])
    for place in order:
        values = {"image": image_ids[place], "split": "test", "group": ""}
        values |= {name: texts[int(labels[name][place])] for name in layout.attributes}
        cells = [values[name] for name in layout.columns]
        # Paths with spaces are not quoted here: the label is what follows the last space.
        file.write(layout.delimiter.join(cells) + "\n") if spaced else writer.writerow(cells)
    return file.getvalue()


def write_submission(
    image_ids: Sequence[str], attributes: AttributeSet, labels: Mapping[str, np.ndarray]
) -> str | None:
    """Returns FaceCom's submission.csv: `filename,predicted_gender,predicted_identity`; None without both."""
    person = next((each for each in attributes.attributes if each.is_person), None)
    if person is None or "gender" not in attributes.names:
        return None
    genders = attributes["gender"].classes
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("filename", "predicted_gender", "predicted_identity"))
    rows = zip(image_ids, labels["gender"].tolist(), labels[person.name].tolist(), strict=True)
    writer.writerows((name, genders[gender], person.classes[identity]) for name, gender, identity in rows)
    return file.getvalue()
