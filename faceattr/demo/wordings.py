"""Questions for the tiny BLIP, made from templates, and the split into trained and held-out wordings.

A wording is held out, and never used in training, if the CRC-32 of its text is divisible by ten; the product's own
wordings are always trained. The rule needs no list, and a test can use questions that the model was never trained on.
"""

import functools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_SUBJECTS = (
    "the person",
    "this person",
    "the man",
    "the woman",
    "this man",
    "this woman",
    "he",
    "she",
    "someone",
    "the individual",
    "the person in the picture",
    "the subject of the photo",
    # Stands for any word outside the vocabulary, so that the token occurs in training.
    "the [UNK]",
)
# Verb ("is" or "are") and noun; the nouns after "no" are below.
_NOUNS = {
    "hat": (
        ("is", "a hat"),
        ("is", "any hat"),
        ("is", "a hat or a cap"),
        ("is", "a cap or a hat"),
        ("is", "a hat or cap"),
        ("is", "headwear"),
        ("is", "some kind of hat"),
    ),
    "glasses": (
        ("are", "glasses"),
        ("are", "eyeglasses"),
        ("are", "spectacles"),
        ("is", "a pair of glasses"),
        ("are", "any glasses"),
        ("is", "eyewear"),
        ("are", "glasses or sunglasses"),
    ),
    "facial_hair": (
        ("is", "facial hair"),
        ("is", "any facial hair"),
        ("is", "a beard or a mustache"),
        ("is", "a mustache or a beard"),
        ("is", "a beard or mustache"),
        ("is", "a beard or a moustache"),
        ("is", "some facial hair"),
    ),
}
_NOUNS_AFTER_NO = {
    "hat": ("hat", "headwear", "hat or cap"),
    "glasses": ("glasses", "eyeglasses", "spectacles", "eyewear"),
    "facial_hair": ("facial hair", "beard or mustache", "mustache or beard"),
}
_PLACES = {
    "hat": ("on the head", "on the head of {s}"),
    "glasses": ("on the face", "over the eyes", "on the face of {s}"),
    "facial_hair": ("on the face", "on the face of {s}"),
}
_ASKING_IF_THERE = (
    "does {s} have {n}?",
    "has {s} got {n}?",
    "can you see {n} on {s}?",
    "do you see {n} on {s}?",
    "{v} there {n} {p}?",
    "{v} {n} visible {p}?",
    "{v} there {n} in the image?",
    "can you see {n}?",
    "does the picture show {n}?",
)
_ASKING_IF_WORN = (
    "is {s} wearing {n}?",
    "does {s} wear {n}?",
    "does {s} have {n} on?",
    "is {s} seen with {n} on?",
)
_ASKING_IF_MISSING = (
    "is {s} without {n}?",
    "is {s} not wearing {n}?",
    "does {s} not have {n}?",
)
_ASKING_IF_NONE = ("does {s} have no {n}?", "is there no {n} {p}?", "is {s} wearing no {n}?")
_OWN_POSITIVE = {
    "hat": ("is the head of {s} covered?", "is the head covered by a hat?", "does {s} wear a hat on the head?"),
    "glasses": ("are the eyes behind glasses?", "is {s} looking through glasses?", "does the face have glasses on?"),
    "facial_hair": (
        "is {s} bearded or mustached?",
        "does the face have facial hair?",
        "is {s} growing facial hair?",
        "is {s} unshaven?",
    ),
    "smiling": (
        "is {s} smiling?",
        "does {s} smile?",
        "does {s} have a smile?",
        "is there a smile on the face of {s}?",
        "is there a smile on the face?",
        "can you see a smile on {s}?",
        "does {s} look happy?",
    ),
}
_OWN_NEGATIVE = {
    "hat": ("is the head bare?", "is {s} bareheaded?", "is the head of {s} bare?", "is {s} hatless?"),
    "glasses": ("are the eyes of {s} bare?", "are the eyes uncovered?", "are the eyes of {s} free of glasses?"),
    "facial_hair": (
        "is {s} clean shaven?",
        "is {s} clean-shaven?",
        "is the face of {s} shaven?",
        "is {s} shaved?",
        "is {s} beardless?",
    ),
    "smiling": ("is {s} not smiling?", "is {s} without a smile?", "does {s} have no smile?"),
}
# Questions that the product asks by default.
PRODUCT_WORDINGS = {
    "hat": ("is the person wearing a hat?", "does the person have a hat on?", "is there a hat on the head?"),
    "glasses": (
        "is the person wearing glasses?",
        "does the person have glasses on?",
        "are there eyeglasses on the face?",
    ),
    "facial_hair": (
        "does the person have facial hair?",
        "does the person have a beard or a mustache?",
        "is there a beard or a mustache on the face?",
    ),
}
# Words that users may type about faces and that occur in no template.
_MORE_WORDS = """
old young child boy girl people human guy lady wearing wears worn put blond dark red black white brown gray blue green
long short curly straight bald ear ears eye nose mouth lips lip chin cheek cheeks forehead skin neck hairs beanie helmet
hood scarf headphones headband flower earring earrings sunglasses lens lenses frame frames goatee stubble whiskers
sideburns mustaches beards hats caps brim visor necklace tie makeup lipstick smile smiles sad angry neutral open closed
looking camera male female age adult background photo photograph drawing cartoon portrait big small thick thin round
square wide one two three no yes not and or with without at to from by his her their its it they what which how many
color colour kind type who where was were has had have be been being do did can could here there visible shown see
"""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """One question and its meaning.

    Attributes:
        attribute: label that determines the answer.
        text: text of the question, in lower case.
        positive: whether "yes" means label 1; otherwise it means label 0.
        held_out: whether the question is excluded from training.
    """

    attribute: str
    text: str
    positive: bool
    held_out: bool


def _fill(templates: tuple[str, ...], attribute: str, nouns: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for template in templates:
        for verb, noun in nouns:
            for place in _PLACES.get(attribute, ("",)) if "{p}" in template else ("",):
                phrase = template.replace("{p}", place).replace("{v}", verb).replace("{n}", noun)
                for subject in _SUBJECTS if "{s}" in phrase else ("",):
                    yield phrase.replace("{s}", subject)


@functools.cache
def build_wordings() -> tuple[Wording, ...]:
    """Returns all wordings in a fixed order, each text once."""
    found: dict[str, tuple[str, bool]] = {}
    for attribute, own_positive in _OWN_POSITIVE.items():
        nouns = _NOUNS.get(attribute, ())
        bare = tuple(("is", noun) for noun in _NOUNS_AFTER_NO.get(attribute, ()))
        positive = [
            *PRODUCT_WORDINGS.get(attribute, ()),
            *_fill(_ASKING_IF_THERE + _ASKING_IF_WORN, attribute, nouns),
            *_fill(own_positive, attribute, (("", ""),)),
        ]
        negative = [
            *_fill(_ASKING_IF_MISSING, attribute, nouns),
            *_fill(_ASKING_IF_NONE, attribute, bare),
            *_fill(_OWN_NEGATIVE[attribute], attribute, (("", ""),)),
        ]
        found.update((text, (attribute, True)) for text in positive)
        found.update((text, (attribute, False)) for text in negative)
    product = {text for texts in PRODUCT_WORDINGS.values() for text in texts}
    return tuple(
        Wording(
            attribute=attribute,
            text=text,
            positive=positive,
            held_out=text not in product and zlib.crc32(text.encode()) % 10 == 0,
        )
        for text, (attribute, positive) in found.items()
    )


def build_vocabulary() -> dict[str, int]:
    """Returns token -> id: the special tokens, the answers, the words of the wordings, and more words about faces.

    `[DEC]` starts an answer, as in the published BLIP checkpoints.
    """
    words = {word for wording in build_wordings() for word in wording.text.replace("-", " ").replace("?", "").split()}
    words |= set(_MORE_WORDS.split())
    ordinary = sorted(words - {"yes", "no", "[UNK]"})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "yes", "no", *"?.,!'-", "a", "s", "t", *ordinary]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}
