"""Review in other tools: an audit's items as tasks of a labelling tool, and the tool's answers as judgements.

Tasks are blind: they hold neither the table's label nor its score. Answers find their items by the image's id, its
address, the key or address of its copy, or its id or key without extension, as the tools name images.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from faceattr.attributes import Attribute
from faceattr.audit.folder import Sample
from faceattr.audit.judgements import ReviewerAnswer, standing_judgements
from faceattr.data.exchange.run_tasks import not_files
from faceattr.data.exchange.tasks import CANNOT_TELL, Answer, ImageTask
from faceattr.data.stores.keys import join_uri
from faceattr.errors import ConfigError


def build_audit_tasks(sample: Sample, folder_uri: str, attribute: str) -> Iterator[ImageTask]:
    """Yields an attribute's items in the order in which they are judged; a copied image is named by its key.

    If images were copied, items whose image could not be read are left out.

    Args:
        sample: the audit.
        folder_uri: address of its folder, for copied images.
        attribute: name of the attribute.

    Raises:
        ConfigError: an image is a part of a Parquet or tar file, and was not copied.
    """
    for row in sample.items.to_pylist():
        if row["attribute"] != attribute or (sample.has_copies and row["copy"] is None):
            continue
        if row["copy"]:
            # Below the audit folder, which is the images' root then.
            yield ImageTask(image_id=row["copy"], uri=join_uri(folder_uri, row["copy"]), facts={"item": row["item"]})
            continue
        if row["source_row"] is not None:
            raise not_files(sample.audit.table)
        yield ImageTask(image_id=row["image_id"], uri=row["uri"], facts={"item": row["item"]})


@dataclass(frozen=True, kw_only=True)
class ImportedJudgements:
    """What the answers of a tool are in an audit.

    Attributes:
        judgements: those to add to the log.
        num_known: answers that the log has already.
        num_foreign: answers about images, or attributes of images, that are not in the sample.
    """

    judgements: tuple[ReviewerAnswer, ...]
    num_known: int
    num_foreign: int


def match_answers(
    sample: Sample, folder_uri: str, logged: Iterable[ReviewerAnswer], answers: Iterable[Answer], reviewer: str
) -> ImportedJudgements:
    """Finds the items that answers are about.

    Args:
        sample: the audit.
        folder_uri: address of its folder, for copied images.
        logged: the judgements in its log.
        answers: at most one for each reviewer, image and attribute.
        reviewer: name for answers whose file does not say who gave them.

    Raises:
        ConfigError: an answer is no class of its attribute.
    """
    items = _name_items(sample, folder_uri)
    standing = standing_judgements(logged)
    judgements, num_known, num_foreign = list[ReviewerAnswer](), 0, 0
    for each in answers:
        found = items.get((each.attribute, each.image), set())
        if len(found) != 1:  # none, or a name without extension that two images share
            num_foreign += 1
            continue
        (item,) = found
        who = each.reviewer or reviewer
        answer = _class_of(each, sample.audit[each.attribute].attribute)
        before = standing.get((who, item))
        if before is not None and before.answer == answer:
            num_known += 1
            continue
        time_s = time.time() if each.time_s is None else each.time_s
        judgements.append(ReviewerAnswer(item=item, answer=answer, reviewer=who, time_s=time_s))
    return ImportedJudgements(judgements=tuple(judgements), num_known=num_known, num_foreign=num_foreign)


def _name_items(sample: Sample, folder_uri: str) -> dict[tuple[str, str], set[int]]:
    """(attribute, name of an image) -> items."""
    names: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    by_stem: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for row in sample.items.select(["item", "attribute", "image_id", "uri", "copy"]).to_pylist():
        keys = {row["image_id"], row["copy"]} - {None}
        copied = set() if row["copy"] is None else {join_uri(folder_uri, row["copy"])}
        for name in {*keys, row["uri"], *copied}:
            names[row["attribute"], name].add(row["item"])
        for stem, dot, _ in (key.rpartition(".") for key in keys):
            if dot:
                by_stem[row["attribute"], stem].add(row["item"])
    return {**by_stem, **names}


def _class_of(answer: Answer, attribute: Attribute) -> int | None:
    if answer.text == CANNOT_TELL:
        return None
    if answer.text not in attribute.classes:
        raise ConfigError(
            f"{answer.image}: {attribute.name}: expected {', '.join(attribute.classes)} or {CANNOT_TELL}, found "
            f"{answer.text!r}"
        )
    return attribute.classes.index(answer.text)
