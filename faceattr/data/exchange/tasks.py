"""What all labelling tools have in common: images to judge with a model's predictions, and people's answers.

A reviewer who cannot tell says so: every layout offers the answer `cannot tell` beside the classes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from faceattr.attributes import Attribute
from faceattr.errors import ConfigError

ExchangeFormat = Literal["label-studio", "cvat", "fiftyone"]
CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class PredictedClass:
    """What a model says of one attribute of an image.

    Attributes:
        label: class index.
        confidence: probability of that class, in [0, 1]; None if it is unknown.
    """

    label: int
    confidence: float | None


@dataclass(frozen=True, kw_only=True)
class ImageTask:
    """An image to judge.

    Attributes:
        image_id: key below the images' root; what the answers are matched by.
        uri: address of the image, a local path or one with a scheme.
        size_px: (width, height), if it is known.
        predictions: attribute to prediction; empty for tasks that are judged blindly.
        facts: further columns for the tool's own filters, such as scores.
    """

    image_id: str
    uri: str
    size_px: tuple[int, int] | None = None
    predictions: dict[str, PredictedClass] = field(default_factory=dict)
    facts: dict[str, float | int | str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer of a person, as a tool wrote it.

    Attributes:
        image: how the tool names the image: an image id, an address, or an image id without its extension.
        attribute: name of the attribute.
        text: a class name, or `CANNOT_TELL`.
        reviewer: who answered; None if the file does not say.
        time_s: when, in seconds since 1970; None if the file does not say.
    """

    image: str
    attribute: str
    text: str
    reviewer: str | None = None
    time_s: float | None = None


TaskWriter = Callable[[Path, Iterable[ImageTask], tuple[Attribute, ...]], int]
"""(path, tasks, attributes) -> number of tasks written."""
AnswerReader = Callable[[Path], Iterator[Answer]]


def check_can_be_chosen(attributes: Iterable[Attribute]) -> tuple[Attribute, ...]:
    """Returns the attributes, if a person can choose among the classes of each.

    Raises:
        ConfigError: one has no classes, or persons as classes, or a class with the name of `CANNOT_TELL`.
    """
    found = tuple(attributes)
    for each in found:
        if not each.has_classes or each.is_person:
            raise ConfigError(
                f"attribute {each.name!r}: its labels are {each.label_words}, which a tool offers no choice of; name "
                "the others with --attributes"
            )
        if CANNOT_TELL in each.classes:
            raise ConfigError(f"attribute {each.name!r}: the class {CANNOT_TELL!r} is the answer of who cannot tell")
    return found


def choices_of(attribute: Attribute) -> tuple[str, ...]:
    """Returns the answers that a tool offers."""
    return (*attribute.classes, CANNOT_TELL)
