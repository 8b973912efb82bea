"""What reviewers agreed on: one answer for each item, from all who judged it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow.compute as pc
from sklearn.metrics import cohen_kappa_score

from faceattr.attributes import DEFAULT_THRESHOLD
from faceattr.audit.folder import AuditedAttribute, Sample
from faceattr.audit.judgements import ReviewerAnswer, standing_judgements
from faceattr.audit.posterior import JudgedItems
from faceattr.errors import RunError


def settle(judgements: Iterable[ReviewerAnswer]) -> dict[int, int | None]:
    """Returns item -> the answer of most reviewers; None if most cannot tell, or if two answers have equally many."""
    answers: dict[int, Counter[int | None]] = defaultdict(Counter)
    for (_, item), judgement in standing_judgements(judgements).items():
        answers[item][judgement.answer] += 1
    settled = {}
    for item, counts in answers.items():
        (answer, most), *others = counts.most_common(2)
        settled[item] = answer if not others or others[0][1] < most else None
    return settled


@dataclass(frozen=True, kw_only=True)
class ReviewerAgreement:
    """How two reviewers agree on the items of one attribute that both could tell.

    Attributes:
        attribute: its name.
        reviewers: their names.
        num_items: items that both judged.
        agreement: share of equal answers.
        kappa: Cohen's kappa: 1 is full agreement, 0 is agreement by chance; NaN if all answers are equal.
    """

    attribute: str
    reviewers: tuple[str, str]
    num_items: int
    agreement: float
    kappa: float


def compare_reviewers(sample: Sample, judgements: Iterable[ReviewerAnswer]) -> Iterator[ReviewerAgreement]:
    """Yields the agreement of each pair of reviewers who share random draws, attribute by attribute."""
    standing = standing_judgements(judgements)
    drawn = sample.items.filter(sample.items["stratum"].is_valid())
    attribute_of = dict(zip(drawn["item"].to_pylist(), drawn["attribute"].to_pylist(), strict=True))
    for audited in sample.audit.attributes:
        name = audited.attribute.name
        answers: dict[str, dict[int, int]] = defaultdict(dict)
        for (reviewer, item), judgement in standing.items():
            if judgement.answer is not None and attribute_of.get(item) == name:
                answers[reviewer][item] = judgement.answer
        for first, second in combinations(sorted(answers), 2):
            shared = sorted(answers[first].keys() & answers[second].keys())
            if shared:
                ours, theirs = ([answers[each][item] for item in shared] for each in (first, second))
                yield ReviewerAgreement(
                    attribute=name,
                    reviewers=(first, second),
                    num_items=len(shared),
                    agreement=float(np.mean(np.equal(ours, theirs))),
                    kappa=float(cohen_kappa_score(ours, theirs)) if len({*ours, *theirs}) > 1 else float("nan"),
                )


@dataclass(frozen=True, kw_only=True)
class AttributeVerdicts:
    """The random draws of one attribute that people judged.

    Attributes:
        audited: the attribute and its strata.
        answer: int64 [m], class index that people gave.
        label: int64 [m], the table's label; -1 if it abstained.
        score: float64 [m], the score by which rows were drawn.
        stratum: int64 [m], index into `num_rows`.
        num_rows: float64 [strata], rows of the table that people can tell; see `gather_verdicts`.
        num_unsure: items that people could not tell.
        num_left: items that nobody has judged.
    """

    audited: AuditedAttribute
    answer: np.ndarray
    label: np.ndarray
    score: np.ndarray
    stratum: np.ndarray
    num_rows: np.ndarray
    num_unsure: int
    num_left: int

    def items(self, positive: np.ndarray) -> JudgedItems:
        """Returns the items with a yes/no question about each; `positive`: bool [m]."""
        audited = self.audited
        threshold = audited.decision.threshold if audited.attribute.has_threshold else DEFAULT_THRESHOLD
        return JudgedItems(
            stratum=self.stratum, positive=positive, score=self.score, num_rows=self.num_rows, threshold=threshold
        )


def gather_verdicts(sample: Sample, name: str, settled: dict[int, int | None]) -> AttributeVerdicts:
    """Joins the random draws of an attribute with what people said of them.

    Rows that people cannot tell are left out of every figure: a stratum counts for the share of its rows that they
    could tell. Rows of a stratum in which nothing was judged count to the nearest one on their side of the threshold.

    Args:
        sample: the audit.
        name: of the attribute.
        settled: result of `settle`.

    Raises:
        RunError: too few items were judged to say anything.
    """
    audited = sample.audit[name]
    items = sample.items.filter(pc.and_(pc.equal(sample.items["attribute"], name), sample.items["stratum"].is_valid()))
    numbers = items["item"].to_pylist()
    stratum = items["stratum"].to_numpy().astype(np.int64)
    judged = np.array([number in settled for number in numbers], bool)
    known = np.array([settled.get(number) is not None for number in numbers], bool)
    if known.sum() < 2:
        raise RunError(f"{name}: {int(known.sum())} of {len(numbers)} items are judged; judge more of them first")
    num_strata = len(audited.strata)
    counts = np.bincount(stratum[judged], minlength=num_strata)
    told = np.bincount(stratum[known], minlength=num_strata)
    rows = np.array([each.num_rows for each in audited.strata], np.int64)
    below = np.array([each.high for each in audited.strata]) <= audited.decision.threshold
    target = _nearest(told > 0, below)
    share = np.divide(told, counts, out=np.zeros(num_strata), where=counts > 0)[target]
    found = np.bincount(target, weights=rows * share, minlength=num_strata)
    # At least the judged rows themselves.
    found = np.maximum(np.round(found).astype(np.int64), told)
    index = np.cumsum(told > 0) - 1
    return AttributeVerdicts(
        audited=audited,
        answer=np.array([settled[number] for number, each in zip(numbers, known, strict=True) if each], np.int64),
        label=items["label"].fill_null(-1).to_numpy().astype(np.int64)[known],
        score=items["score"].to_numpy().astype(np.float64)[known],
        stratum=index[stratum[known]],
        num_rows=found[told > 0],
        num_unsure=int((judged & ~known).sum()),
        num_left=int((~judged).sum()),
    )


def _nearest(usable: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Returns for each stratum the usable one that it counts to: itself, or the nearest, if possible on its side."""
    places = np.arange(len(usable))
    distance = np.abs(places[:, None] - places[None]) + len(places) * (below[:, None] != below[None])
    return np.asarray(np.where(usable[None], distance, 3 * len(places)).argmin(1))
