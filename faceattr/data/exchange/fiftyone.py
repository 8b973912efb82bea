"""FiftyOne: one `FiftyOneImageClassificationDataset` for each attribute, as a folder with labels.json.

    <folder>/hat/labels.json    {"classes": ["no", "yes", "cannot tell"], "labels": {"/faces/a.jpg": TARGET}}

TARGET is null for an image without a label, else {"label": class index, "confidence": probability}. Images are named by
absolute path, or, where they are not on this machine, by their key without its extension: then give FiftyOne a copy of
the images' root as `data_path`. Load the attributes into fields of one data set with `dataset.merge_dir`, given
`labels_path`, `dataset_type=fo.types.FiftyOneImageClassificationDataset` and `label_field="hat"`; write a judged field
with `dataset.export`, the same arguments, and `abs_paths=True`. The name of the folder says which attribute it is.

The layout is that of FiftyOne's documentation, "FiftyOneImageClassificationDataset".
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from faceattr.attributes import Attribute
from faceattr.data.exchange.tasks import Answer, ImageTask, PredictedClass, choices_of
from faceattr.data.formats.json_text import encode_json
from faceattr.data.stores.local_files import new_text_file
from faceattr.errors import ConfigError

LABELS_NAME = "labels.json"


def write_fiftyone(path: Path, tasks: Iterable[ImageTask], attributes: tuple[Attribute, ...]) -> int:
    """Writes a folder for each attribute; returns the number of images."""
    labels: dict[str, dict[str, Any]] = {each.name: {} for each in attributes}
    count = 0
    for task in tasks:
        count += 1
        name = _name_image(task)
        for each in attributes:
            found = task.predictions.get(each.name)
            labels[each.name][name] = None if found is None else _encode_target(found)
    for each in attributes:
        with new_text_file(path / each.name / LABELS_NAME) as file:
            file.write(encode_json({"classes": list(choices_of(each)), "labels": labels[each.name]}, indent=1))
    return count


def _name_image(task: ImageTask) -> str:
    if "://" not in task.uri:
        return task.uri
    return str(PurePosixPath(task.image_id).with_suffix(""))


def _encode_target(prediction: PredictedClass) -> dict[str, Any]:
    score = {} if prediction.confidence is None else {"confidence": prediction.confidence}
    return {"label": prediction.label, **score}


def read_fiftyone(path: Path) -> Iterator[Answer]:
    """Yields the answers in a folder of attributes, or in one attribute's folder or labels.json.

    Raises:
        ConfigError: there is no labels.json, or it has another layout.
    """
    files = [path] if path.is_file() else sorted([*path.glob(LABELS_NAME), *path.glob(f"*/{LABELS_NAME}")])
    if not files:
        raise ConfigError(f"{path}: expected {LABELS_NAME}, or a folder for each attribute that has one")
    for file in files:
        yield from _read_labels(file)


def _read_labels(file: Path) -> Iterator[Answer]:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: no JSON in UTF-8") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise ConfigError(f"{file}: expected an object with `labels`: a FiftyOneImageClassificationDataset")
    classes = content.get("classes") or []
    if not isinstance(classes, list):
        raise ConfigError(f"{file}: expected a list of `classes`")
    for image, target in content["labels"].items():
        label = target.get("label") if isinstance(target, dict) else target
        if label is None:
            continue
        text = classes[label] if type(label) is int and 0 <= label < len(classes) else label
        if not isinstance(text, str):
            raise ConfigError(f"{file}: {image!r}: expected a class of {classes}, found {label!r}")
        yield Answer(image=image, attribute=file.absolute().parent.name, text=text)
