"""CVAT: annotations in the layout "CVAT for images 1.1", with a tag for each answer, such as `hat=yes`.

    annotations.xml     <image name="KEY"><tag label="hat=yes" source="auto"/></image>; upload as "CVAT 1.1"
    <name>.labels.json  the labels, for the "Raw" tab of the task's constructor

One label for each answer, not one with a list to choose from: in the workspace "Tag annotation" an answer is then one
key, and none is preset. CVAT finds images by name: make the task from the images' root (or from a cloud storage), so
that names are keys below it. The model's predictions are tags with source "auto", and such tags are no answers when a
file is read: what a person added is "manual".

The layout follows CVAT's documentation, "XML annotation format", version 1.1.
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from faceattr.attributes import Attribute
from faceattr.data.exchange.tasks import Answer, ImageTask, choices_of
from faceattr.data.formats.json_text import encode_json
from faceattr.data.stores.local_files import new_text_file
from faceattr.errors import ConfigError

_PREDICTED = "auto"
_CHUNK = 2**16


def write_cvat(path: Path, tasks: Iterable[ImageTask], attributes: tuple[Attribute, ...]) -> int:
    """Writes the annotations and, as `<name>.labels.json` beside them, the labels; returns the number of images."""
    labels = [f"{each.name}={choice}" for each in attributes for choice in choices_of(each)]
    count = 0
    with new_text_file(path) as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        shown = "".join(f"<label><name>{escape(each)}</name><type>tag</type><attributes/></label>\n" for each in labels)
        file.write(f"<meta><task><mode>annotation</mode><labels>\n{shown}</labels></task></meta>\n")
        for task in tasks:
            size = "" if task.size_px is None else f' width="{task.size_px[0]}" height="{task.size_px[1]}"'
            said = (
                f"{each.name}={each.classes[task.predictions[each.name].label]}"
                for each in attributes
                if each.name in task.predictions
            )
            tags = "".join(f'<tag label={quoteattr(each)} source="{_PREDICTED}"/>' for each in said)
            file.write(f'<image id="{count}" name={quoteattr(task.image_id)}{size}>{tags}</image>\n')
            count += 1
        file.write("</annotations>\n")
    with new_text_file(path.with_name(f"{path.stem}.labels.json")) as file:
        file.write(encode_json([{"name": each, "type": "tag", "attributes": []} for each in labels], indent=1))
    return count


def read_cvat(path: Path) -> Iterator[Answer]:
    """Yields the answers in an export "CVAT for images 1.1": the XML file, or the ZIP that has it.

    Tags that are no answers to our questions are passed over, and so are predictions that nobody touched.

    Raises:
        ConfigError: the file is something else, or declares entities, which can be made to fill the memory.
    """
    tags: list[tuple[str, str]] = []
    names: list[str] = []
    roots: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        roots.append(name)
        if name == "image":
            names.append(attributes.get("name", ""))
        elif name == "tag" and names and attributes.get("source") != _PREDICTED:
            tags.append((names[-1], attributes.get("label", "")))

    with _open_annotations(path) as file:
        for _ in _parse(file, path, start):
            if roots and roots[0] != "annotations":
                raise ConfigError(f"{path}: expected <annotations>, found <{roots[0]}>; export as CVAT for images 1.1")
            del roots[1:], names[:-1]
            for image, label in tags:
                attribute, sign, text = label.partition("=")
                if sign:
                    yield Answer(image=image, attribute=attribute, text=text)
            tags.clear()


def _parse(file: IO[bytes], path: Path, start: Callable[[str, dict[str, str]], None]) -> Iterator[None]:
    """Parses piece by piece, so that memory does not depend on the file's size."""
    parser = expat.ParserCreate()
    parser.StartElementHandler = start

    def refuse(*_: Any) -> None:
        raise ConfigError(f"{path}: a document type with entities, which CVAT does not write")

    parser.EntityDeclHandler = refuse
    try:
        while piece := file.read(_CHUNK):
            parser.Parse(piece)
            yield
        parser.Parse(b"", True)
    except (expat.ExpatError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: no XML of CVAT: {error}") from error
    yield


@contextmanager
def _open_annotations(path: Path) -> Iterator[IO[bytes]]:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        if "annotations.xml" not in archive.namelist():
            raise ConfigError(f"{path}: a ZIP without annotations.xml; export as CVAT for images 1.1")
        with archive.open("annotations.xml") as file:
            yield file
