"""Questions: what the model is asked about each attribute, and how its answers become labels.

An attribute is asked by one or more paraphrased questions, each with the same list of answers. A question's answer
log-likelihoods are normalised over the answers, paraphrases are averaged in log space, and the mean is normalised
again, so that one paraphrase with a certain `no` outweighs several uncertain ones:

    score = softmax_c( mean_k log softmax_c( log p(answer_c | question_k) ) )
    mass  = exp( mean_k log sum_c p(answer_c | question_k) )

`score` is P(yes) for a binary attribute and one probability per class for a multiclass one; `mass` is the total
probability that the model gave to those answers. If asked for, it is multiplied by how far the paraphrases agree, by
`faceattr.data.joined.agreement` of the probabilities softmax_c( log p(answer_c | question_k) ).

A model that compares images with texts, such as CLIP, is asked nothing. It gets prompts for each answer, and has one
likelihood for each answer of an attribute, as if there were one question.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute
from faceattr.data.joined.agreement import compute_agreement

# Special categories of GDPR Art. 9, as far as a question about a face can concern them; EU AI Act Art. 5(1)(g) forbids
# biometric categorisation by most of them. This is a word filter, not legal advice: it finds words, not intentions.
_SENSITIVE = re.compile(
    r"\b(rac(?:e|es|ial)|ethnic\w*|nationalit\w+|skin[ -](?:colou?r|tone)|"
    r"colou?r (?:is|of) (?:the|his|her|their) skin|(?:black|white|dark)-skinned|"
    r"(?:person|man|woman|he|she|skin) (?:black|white|dark)(?![ -]hair)|"
    r"(?:black|white|dark) (?:person|people|man|woman|skin)|"
    r"caucasian|asian|african|latin[oax]|hispanic|indian|arab\w*|"
    r"religio\w*|muslim|christian|jew(?:ish)?|hindu|sikh|buddhis\w+|hijab|turban|kippah|yarmulke|faith|"
    r"sexual\w*|gay|lesbian|homosexual|bisexual|heterosexual|transgender|straight person|orientation|"
    r"health\w*|ill|illness|disease\w*|disab\w+|pregnan\w+|depress\w+|autis\w+|down syndrome|drunk|addict\w*|"
    r"politic\w*|trade union|criminal)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class VqaQuestion:
    """One question as the model receives it.

    Attributes:
        text: the question.
        answers: the answers to score, in class order; unknown answers are last.
    """

    text: str
    answers: tuple[str, ...]


def compute_answer_slices(questions: Sequence[VqaQuestion]) -> tuple[slice, ...]:
    """Returns the columns of each question in a score matrix: answers of question 0 first, then question 1, ..."""
    slices, start = [], 0
    for question in questions:
        slices.append(slice(start, start + len(question.answers)))
        start += len(question.answers)
    return tuple(slices)


@dataclass(frozen=True, kw_only=True)
class AskedAttribute:
    """One attribute with its questions.

    Attributes:
        attribute: name, kind, classes.
        questions: paraphrases; an inverted one has the answers in reversed class order (yes means no).
        answers: answer texts in class order.
        inverted: per question, whether its positive answer speaks against the attribute.
        threshold: a binary score of at least this value is labelled 1.
        abstain: binary: scores strictly between these are labelled null. Multiclass: (p, 1.0): null if no class
            reaches p.
        prompts: for each answer the texts that describe an image with it; empty to make them from the questions.
        unknown: answers that say nothing about the attribute, such as "cannot tell".
    """

    attribute: Attribute
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    inverted: tuple[bool, ...]
    threshold: float = 0.5
    abstain: tuple[float, float] | None = None
    prompts: tuple[tuple[str, ...], ...] = ()
    unknown: tuple[str, ...] = ()

    def vqa_questions(self) -> tuple[VqaQuestion, ...]:
        """Returns the questions as the model receives them, each with its answers in class order."""
        reverse = self.answers[::-1]
        return tuple(
            VqaQuestion(text, (reverse if inverted else self.answers) + self.unknown)
            for text, inverted in zip(self.questions, self.inverted, strict=True)
        )

    def answer_prompts(self) -> tuple[tuple[str, ...], ...]:
        """Returns the prompts of each answer, in class order: as given, or each question with the answer after it.

        Unknown answers are last; where prompts are given, they are prompts themselves.
        """
        if self.prompts:
            return self.prompts + tuple((text,) for text in self.unknown)
        asked = [[f"{each.text} {answer}" for answer in each.answers] for each in self.vqa_questions()]
        return tuple(zip(*asked, strict=True))


class AttributeLabels(NamedTuple):
    """Labels of one attribute for a batch of n images.

    Attributes:
        label: int64 [n], class index, undefined where `unknown`.
        unknown: bool [n], whether the score is in the abstain band, or there is none.
        score: float32 [n] P(yes), or [n, classes] for a multiclass attribute.
        mass: float32 [n], total probability of the answers, times the agreement of the paraphrases if asked for; None
            from a model that gives the answers no probabilities beyond their shares.
        unanswered: bool [n], whether an unknown answer is the likeliest, so that there is no score.
    """

    label: np.ndarray
    unknown: np.ndarray
    score: np.ndarray
    mass: np.ndarray | None
    unanswered: np.ndarray


@dataclass(frozen=True, kw_only=True)
class QuestionSet:
    """Everything that is asked in one run, in column order.

    Attributes:
        name: name of the set.
        asked: attributes with their questions.
        derived: rules over them.
        weighs_agreement: whether `mass` is multiplied by the agreement of the paraphrases.
        has_mass: whether the likelihoods have a mass; it follows from the model.
        by_prompts: whether the model gets prompts in place of questions; it follows from the model.
    """

    name: str
    asked: tuple[AskedAttribute, ...]
    derived: tuple[DerivedAttribute, ...] = ()
    weighs_agreement: bool = False
    has_mass: bool = True
    by_prompts: bool = False

    @property
    def attributes(self) -> AttributeSet:
        """The attributes without their questions."""
        return AttributeSet(attributes=tuple(asked.attribute for asked in self.asked), derived=self.derived)

    def vqa_questions(self) -> tuple[VqaQuestion, ...]:
        """Returns all questions of all attributes, in the order that `compute_labels` expects."""
        return tuple(question for asked in self.asked for question in asked.vqa_questions())

    def answer_prompts(self) -> tuple[tuple[tuple[str, ...], ...], ...]:
        """Returns the prompts of each answer of each attribute, in the order that `compute_labels` expects."""
        return tuple(asked.answer_prompts() for asked in self.asked)

    def wordings(self, asked: AskedAttribute) -> tuple[str, ...]:
        """Returns what the model is given about an attribute: its questions, or its prompts with their answers."""
        if not self.by_prompts:
            return asked.questions
        names = (*asked.attribute.classes, *("unknown" for _ in asked.unknown))
        pairs = zip(names, asked.answer_prompts(), strict=True)
        return tuple(f"{name}: {prompt}" for name, prompts in pairs for prompt in prompts)

    def sensitive_questions(self) -> tuple[str, ...]:
        """Returns questions, names, classes and answers about race, religion, orientation, health or politics."""
        texts: list[str] = []
        for asked in self.asked:
            texts += [asked.attribute.name, *asked.questions, *asked.attribute.classes, *asked.answers, *asked.unknown]
            texts += [prompt for prompts in asked.prompts for prompt in prompts]
        texts += [rule.name for rule in self.derived]
        spaced = (text.replace("_", " ") for text in texts)
        return tuple(dict.fromkeys(text for text in spaced if _SENSITIVE.search(text)))

    def to_json(self) -> dict[str, object]:
        """Returns the plain form for run.json and the fingerprint: everything that decides a label."""
        return {
            "name": self.name,
            "attributes": {
                asked.attribute.name: {
                    "kind": asked.attribute.kind,
                    "classes": list(asked.attribute.classes),
                    "questions": list(asked.questions),
                    "inverted": list(asked.inverted),
                    "answers": list(asked.answers),
                    "threshold": asked.threshold,
                    "abstain": list(asked.abstain) if asked.abstain else None,
                    # What a model does not read decides nothing.
                    **({"prompts": [list(each) for each in asked.answer_prompts()]} if self.by_prompts else {}),
                    **({"unknown": list(asked.unknown)} if asked.unknown else {}),
                }
                for asked in self.asked
            },
            "derived": {rule.name: rule.rule for rule in self.derived},
            # Left out of runs that do not choose it, as of those that could not.
            **({"agreement": True} if self.weighs_agreement else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "QuestionSet":
        """Inverse of `to_json`."""
        asked = tuple(
            AskedAttribute(
                attribute=Attribute(name=name, kind=each["kind"], classes=tuple(each["classes"])),
                questions=tuple(each["questions"]),
                answers=tuple(each["answers"]),
                inverted=tuple(each["inverted"]),
                threshold=each["threshold"],
                abstain=tuple(each["abstain"]) if each["abstain"] else None,
                prompts=tuple(tuple(prompts) for prompts in each.get("prompts", ())[: len(each["answers"])]),
                unknown=tuple(each.get("unknown", ())),
            )
            for name, each in value["attributes"].items()
        )
        rules = tuple(DerivedAttribute(name=name, rule=rule) for name, rule in value["derived"].items())
        return cls(name=value["name"], asked=asked, derived=rules, by_prompts=any(each.prompts for each in asked))

    def compute_labels(self, log_likelihoods: np.ndarray) -> dict[str, AttributeLabels]:
        """Converts answer log-likelihoods to labels.

        Args:
            log_likelihoods: float32 [n, sum of answers over `vqa_questions()`], natural logarithms; with prompts
                [n, sum of answers over the attributes].

        Returns:
            One entry per attribute, in order.
        """
        labels = {}
        start = 0
        for asked in self.asked:
            num_questions = 1 if self.by_prompts else len(asked.questions)
            num_answers = len(asked.answers) + len(asked.unknown)
            stop = start + num_questions * num_answers
            block = log_likelihoods[:, start:stop].reshape(-1, num_questions, num_answers).astype(np.float64)
            found = _label(asked, block, weighs_agreement=self.weighs_agreement)
            labels[asked.attribute.name] = found if self.has_mass else found._replace(mass=None)
            start = stop
        return labels


def _label(asked: AskedAttribute, given: np.ndarray, *, weighs_agreement: bool) -> AttributeLabels:
    log_likelihoods = given[..., : len(asked.answers)]
    # Inverted questions were asked with reversed answers, so the last axis is already in class order.
    log_mass = _logsumexp(log_likelihoods)  # [n, questions]
    log_shares = log_likelihoods - log_mass[..., None]  # [n, questions, classes]
    mean = log_shares.mean(axis=1)  # [n, classes]
    probabilities = np.exp(mean - _logsumexp(mean)[:, None]).astype(np.float32)
    mass = np.exp(log_mass.mean(axis=1)).astype(np.float32)
    if weighs_agreement:
        mass = mass * compute_agreement(np.exp(log_shares)).astype(np.float32)
    if asked.attribute.is_yes_no:
        score = probabilities[:, 1]
        label = score >= asked.threshold
        low, high = asked.abstain or (0.0, 0.0)
        unknown = (score > low) & (score < high)
    else:
        score = probabilities
        label = probabilities.argmax(axis=1)
        unknown = probabilities.max(axis=1) < (asked.abstain[0] if asked.abstain else 0.0)
    unanswered = _prefers_unknown(given, num_classes=len(asked.answers))
    return AttributeLabels(
        label=label.astype(np.int64), unknown=unknown | unanswered, score=score, mass=mass, unanswered=unanswered
    )


def _prefers_unknown(log_likelihoods: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Returns bool [n]: whether the unknown answers, behind the classes, are likelier than each class; see the module.

    What a paraphrase gives to all answers cancels in the comparison.
    """
    classes, unknown = log_likelihoods[..., :num_classes], log_likelihoods[..., num_classes:]
    if not unknown.shape[-1]:
        return np.zeros(len(log_likelihoods), bool)
    return np.asarray(_logsumexp(unknown).mean(axis=1) > classes.mean(axis=1).max(axis=1))


def _logsumexp(values: np.ndarray) -> np.ndarray:
    peak = values.max(axis=-1)
    return np.asarray(peak + np.log(np.exp(values - peak[..., None]).sum(axis=-1)))
