"""What a reviewer is shown and says: items attribute by attribute, the reviewer's own answers, and what the table says.

The table's label, its score and the image's name stay on the server until the reviewer has judged the item, because
each of them can give the answer away. Of a listed item the heading says why it is listed: that somebody says otherwise
than the table, but not who says what.
"""

import hashlib
import time
import unicodedata
from pathlib import Path
from typing import Any

from faceattr.attributes import Attribute
from faceattr.audit.folder import AUDIT_KEY, DRAWN, SAMPLE_KEY, AuditedAttribute, read_sample
from faceattr.audit.judgements import (
    ANSWERS_KEY,
    ReviewerAnswer,
    append_judgements,
    read_judgements,
    standing_judgements,
)
from faceattr.audit.lists.count import describe_list
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError

MAX_NAME = 64
"""Characters in the name of a reviewer."""


def check_reviewer(name: str) -> str:
    """Returns the name of a reviewer without surrounding white space.

    Raises:
        ConfigError: it is empty, longer than `MAX_NAME`, or has control characters.
    """
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or any(unicodedata.category(each).startswith("C") for each in name):
        raise ConfigError(f"the name of a reviewer: expected 1 to {MAX_NAME} visible characters, found {name!r}")
    return name


class ReviewSession:
    """One audit under review; thread-safe, and several sessions may be open on one folder.

    Args:
        folder: the audit folder.

    Raises:
        ConfigError: there is no audit in it, it has nothing to judge, an attribute has no classes, or its log cannot
            be written.
        RunError: a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.log = folder / ANSWERS_KEY
        self.sample = read_sample(self.store)
        self.audit_id = hashlib.sha256(self.store.get(AUDIT_KEY) + self.store.get(SAMPLE_KEY)).hexdigest()[:16]
        self._rows = self.sample.items.to_pylist()
        # A sample has a few of a table's attributes, each for some of the images.
        self._audited = {each.attribute.name: each for each in self.sample.audit.attributes}
        for each in self._audited.values():
            if not each.attribute.has_classes:
                raise ConfigError(f"{self.store.uri}: {each.attribute.name!r} has no classes that could be chosen")
        if not self._rows:
            raise ConfigError(f"{self.store.uri}: the sample has no items")
        try:
            append_judgements(self.log, [])
        except OSError as error:
            raise ConfigError(f"{self.log} cannot be written: {error.strerror}") from error

    def describe(self, reviewer: str) -> dict[str, Any]:
        """Returns what the page needs, as JSON values.

        Args:
            reviewer: whose answers to include. Others' answers are not shown: a reviewer judges independently.

        Returns:
            `audit` (its id), `reviewer`, `attributes` (name, classes, is_yes_no, and the numbers of their items in the
            order in which they are judged; each list of an attribute is one more, after all random draws), and
            `answers`: [item, answer, what the table says] of every judged item.
        """
        answers = standing_judgements(read_judgements(self.store))
        groups: dict[tuple[str, str], list[int]] = {}
        for number, row in enumerate(self._rows):
            key = (row["attribute"], DRAWN if row["stratum"] is not None else row["reason"])
            groups.setdefault(key, []).append(number)
        return {
            "audit": self.audit_id,
            "reviewer": reviewer,
            "attributes": [
                {
                    "name": name if reason == DRAWN else describe_list(name, reason),
                    "classes": list(self._audited[name].attribute.classes),
                    "is_yes_no": self._audited[name].attribute.is_yes_no,
                    "items": items,
                }
                for (name, reason), items in groups.items()
            ],
            "answers": [
                [item, each.answer, self._describe_table(item)]
                for (who, item), each in answers.items()
                if who == reviewer and 0 <= item < len(self._rows)
            ],
        }

    def judge(self, audit: str, item: int, answer: int | None, reviewer: str) -> dict[str, Any]:
        """Appends an answer to the log; when this returns, the disk has it.

        Args:
            audit: id of the audit that the reviewer saw.
            item: number of the item.
            answer: class index; None if the reviewer cannot tell.
            reviewer: name of who judged.

        Returns:
            What the table says of the item, for the page.

        Raises:
            ConfigError: the page shows another audit, there is no such item or class, or the name cannot be used.
            OSError: the log could not be written; nothing was judged.
        """
        if audit != self.audit_id:  # a page of another server that had this port, left open
            raise ConfigError("this page shows another audit than the server has; reload it")
        if type(item) is not int or not 0 <= item < len(self._rows):
            raise ConfigError(f"there is no item {item!r}; the sample has 0 to {len(self._rows) - 1}")
        classes = self._attribute(item).classes
        if answer is not None and (type(answer) is not int or not 0 <= answer < len(classes)):
            raise ConfigError(f"item {item}: expected null or 0 to {len(classes) - 1}, found the answer {answer!r}")
        name = check_reviewer(reviewer)
        append_judgements(self.log, [ReviewerAnswer(item=item, answer=answer, reviewer=name, time_s=time.time())])
        return self._describe_table(item)

    @property
    def num_items(self) -> int:
        """Number of items in the sample."""
        return len(self._rows)

    def count_judged(self) -> int:
        """Returns the number of items that somebody has judged."""
        return len({item for _, item in standing_judgements(read_judgements(self.store))})

    def _attribute(self, item: int) -> Attribute:
        return self._audited_of(item).attribute

    def _audited_of(self, item: int) -> AuditedAttribute:
        return self._audited[self._rows[item]["attribute"]]

    def _describe_table(self, item: int) -> dict[str, Any]:
        """What was hidden: the table's label and score, and where the image is from."""
        row, audited = self._rows[item], self._audited_of(item)
        return {
            "label": row["label"],
            "score": row["score"],
            "threshold": audited.decision.threshold if audited.attribute.has_threshold else None,
            "image_id": row["image_id"],
            "reason": row["reason"],
        }
