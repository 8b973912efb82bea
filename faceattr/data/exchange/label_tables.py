"""People's answers as a table of labels: one row for each image, which packing reads as a source.

    image_path    as the tool names the image
    <attribute>   1 or 0 if the answers are yes and no, else the class's name; empty if it is unknown

Unknown is what nobody answered, what reviewers could not tell, and what as many said as said another class.
"""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from faceattr.attributes import check_attribute_name
from faceattr.data.exchange.tasks import CANNOT_TELL, Answer
from faceattr.data.formats.parquet import encode_table
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.local_files import new_text_file

LABEL_TABLE_ENDINGS = (".csv", ".parquet")
_YES_NO = {"yes": 1, "no": 0}


@dataclass(frozen=True, kw_only=True)
class LastAnswers:
    """The answers that count.

    Attributes:
        answers: the last of each reviewer about each image and attribute, in the order of the file.
        num_contradictory: (reviewer, image, attribute) with several answers, none of which is the last.
    """

    answers: tuple[Answer, ...]
    num_contradictory: int


def keep_last_answers(answers: Iterable[Answer]) -> LastAnswers:
    """Returns the last answer of each reviewer; of several at one time, or without a time, none counts."""
    kept: dict[tuple[str | None, str, str], list[Answer]] = {}
    for each in answers:
        key = (each.reviewer, each.image, each.attribute)
        before = kept.get(key, [])
        if not before or (each.time_s or 0.0) > (before[0].time_s or 0.0):
            kept[key] = [each]
        elif (each.time_s or 0.0) == (before[0].time_s or 0.0) and all(each.text != one.text for one in before):
            before.append(each)
    return LastAnswers(
        answers=tuple(found[0] for found in kept.values() if len(found) == 1),
        num_contradictory=sum(len(found) > 1 for found in kept.values()),
    )


def write_label_table(path: Path, answers: Iterable[Answer]) -> int:
    """Writes the answers, by its ending as CSV or as Parquet; returns the number of images.

    Names are written as they are, since a program reads the table.

    Args:
        path: file to write.
        answers: at most one for each reviewer, image and attribute.

    Raises:
        ConfigError: an attribute's name cannot be a column, or the file cannot be written.
    """
    votes: dict[str, dict[str, Counter[str]]] = {}
    names: dict[str, None] = {}
    for each in answers:
        if each.attribute not in names:
            check_attribute_name(each.attribute)
            names[each.attribute] = None
        of_image = votes.setdefault(each.image, {})
        if each.text != CANNOT_TELL:
            of_image.setdefault(each.attribute, Counter())[each.text] += 1
    columns: dict[str, list[str | int | None]] = {"image_path": list(votes)}
    for name in names:
        said = [_majority(of_image.get(name, Counter())) for of_image in votes.values()]
        is_yes_no = {each for each in said if each is not None} <= set(_YES_NO)
        columns[name] = [_YES_NO[each] if is_yes_no and each is not None else each for each in said]
    if path.suffix == ".parquet":
        LocalStore(path.parent).put(path.name, encode_table(_to_arrow(columns)))
        return len(votes)
    with new_text_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return len(votes)


def _majority(votes: Counter[str]) -> str | None:
    ranked = votes.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _to_arrow(columns: dict[str, list[str | int | None]]) -> pa.Table:
    kinds = {
        name: pa.string() if name == "image_path" or any(isinstance(each, str) for each in values) else pa.int8()
        for name, values in columns.items()
    }
    return pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})
