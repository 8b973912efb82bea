"""Captions of drawn faces: what is said of a face is true, and no caption is a prompt of the built-in question sets.

A caption speaks of one to three attributes, in one of several wordings, such as "a picture of a man with glasses on and
without a hat". The prompts of the built-in sets are left out, so that labels by them are zero-shot.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from faceattr.vqa.question_files import builtin_sets, load_question_set

_FRAMES = ("a photo of {}", "a picture of {}", "an image of {}", "a drawing of {}", "{}")
_SUBJECTS = ("a person", "a man", "a woman", "a face", "a head", "someone")
# Attribute -> the wordings of no, and of yes.
_WORDINGS = {
    "hat": (
        ("without a hat", "with no hat", "with a bare head", "with nothing on the head"),
        ("wearing a hat", "with a hat", "with a cap", "with a hat or a cap", "wearing a cap", "with a hat on the head"),
    ),
    "glasses": (
        ("without glasses", "with no glasses", "with bare eyes", "with nothing before the eyes"),
        ("wearing glasses", "with glasses", "with eyeglasses", "wearing eyeglasses", "with glasses on"),
    ),
    "facial_hair": (
        ("without facial hair", "with no facial hair", "with a clean-shaven chin", "without a beard or a mustache"),
        ("with facial hair", "with a beard or a mustache", "with some facial hair", "with hair on the chin"),
    ),
}
# Subjects that say it alone.
_SPEAKING = {
    "hat": (("a bare head", "a person with a bare head"), ("a head with a hat", "a hat on a head")),
    "glasses": (("bare eyes", "a face with eyes and no glasses"), ("eyeglasses on a face", "eyes with glasses")),
    "facial_hair": (("a clean-shaven person", "a clean-shaven man"), ("a bearded person", "a beard on a chin")),
}
CAPTIONED = tuple(_WORDINGS)


@dataclass(frozen=True)
class Caption:
    """A caption and what it says.

    Attributes:
        text: the caption.
        says: attribute -> 0 or 1, for those that it speaks of.
    """

    text: str
    says: dict[str, int]


def list_prompts() -> frozenset[str]:
    """Returns the prompts of the built-in question sets."""
    asked = [asked for name in builtin_sets() for asked in load_question_set(name).asked]
    return frozenset(prompt for each in asked for prompts in each.prompts for prompt in prompts)


def draw_caption(labels: Mapping[str, int], rng: np.random.Generator, *, without: frozenset[str]) -> Caption:
    """Draws a true caption of a face with these labels that is none of the texts in `without`."""
    while True:
        names = rng.permutation(CAPTIONED)[: rng.choice(3, p=[0.6, 0.25, 0.15]) + 1].tolist()
        says = {name: int(labels[name]) for name in names}
        subject, spoken = _choose(_SUBJECTS, rng), names
        if rng.random() < 0.25:
            subject, spoken = _choose(_SPEAKING[names[0]][says[names[0]]], rng), names[1:]
        wordings = " and ".join(_choose(_WORDINGS[name][says[name]], rng) for name in spoken)
        text = _choose(_FRAMES, rng).format(f"{subject} {wordings}".strip())
        if text not in without:
            return Caption(text, says)


def _choose(texts: tuple[str, ...], rng: np.random.Generator) -> str:
    return texts[rng.integers(len(texts))]
