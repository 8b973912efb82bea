"""Draws the stratified sample of a table of scores, in two passes over it, whatever its size.

The first pass counts scores, which decides the strata; the second takes rows. Each row has a random priority that
depends on seed, attribute and row number alone, and the rows with the lowest ones in their stratum are the sample (a
random sort, Sunter 1977): the same command draws the same rows, and a larger sample has all rows of a smaller one with
the same strata.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from faceattr.attributes import DEFAULT_THRESHOLD
from faceattr.audit.folder import DRAWN, SAMPLE_SCHEMA, SCORES_SCHEMA, AuditedAttribute, Stratum
from faceattr.audit.scored_table import ScoredTable, read_scores
from faceattr.audit.strata import ScoreHistogram, StrataPlan, find_stratum, plan_strata
from faceattr.data.runs.run_attributes import Decision
from faceattr.errors import ConfigError

_COPIED = ("row", "image_id", "uri", "source_row")


def count_scores(table: ScoredTable) -> dict[str, ScoreHistogram]:
    """Counts the scores of every attribute: the first pass.

    Raises:
        ConfigError: an attribute has no score in any row.
    """
    found = {}
    for name, attribute in table.attributes.items():
        decision = table.decisions.get(name, Decision())
        # The likeliest class has no threshold; where its score is low, mistakes are likelier.
        found[name] = ScoreHistogram(decision.threshold if attribute.has_threshold else DEFAULT_THRESHOLD)
    for rows in table.read():
        for name, attribute in table.attributes.items():
            scores, known = read_scores(rows, attribute)
            found[name].add(scores[known])
    empty = [name for name, each in found.items() if not each.counts.sum()]
    if empty:
        raise ConfigError(f"{table.address} has no score of {', '.join(empty)} in any row; leave it out: --attributes")
    return found


def describe_scores(histograms: Mapping[str, ScoreHistogram]) -> pa.Table:
    """Returns the histograms in `SCORES_SCHEMA`."""
    parts = []
    for name, each in histograms.items():
        filled = np.flatnonzero(each.counts)
        columns = [[name] * len(filled), each.edges[filled], each.edges[filled + 1], each.counts[filled]]
        parts.append(pa.table(columns, schema=SCORES_SCHEMA))
    return pa.concat_tables(parts)


def share_budget(histograms: Mapping[str, ScoreHistogram], budget: int, *, least: int = 30) -> dict[str, int]:
    """Spreads a number of judgements over attributes so that their intervals become about equally wide.

    The variance of an estimate falls with the number of draws; before anyone has judged, its numerator is what the
    scores say of it: the mean of sqrt(p (1 - p)), squared, divided by the square of the share of positives. Where
    the model is sure and wrong, the intervals become wider.

    Args:
        histograms: attribute -> scores.
        budget: judgements of all attributes together.
        least: fewest judgements per attribute, as far as the budget suffices.
    """
    spreads = np.array([_relative_variance(each) for each in histograms.values()])
    equal = min(least, budget // len(histograms))
    shares = equal + np.floor((budget - equal * len(histograms)) * spreads / spreads.sum()).astype(np.int64)
    return dict(zip(histograms, shares.tolist(), strict=True))


def _relative_variance(histogram: ScoreHistogram) -> float:
    counts = histogram.counts / histogram.counts.sum()
    positives = (counts * histogram.expected_shares).sum()
    return float(((counts * histogram.informativeness).sum() / positives) ** 2)


def draw_sample(
    table: ScoredTable, histograms: Mapping[str, ScoreHistogram], draws: Mapping[str, int], *, seed: int
) -> tuple[list[AuditedAttribute], pa.Table]:
    """Takes the rows: the second pass.

    Args:
        table: the table.
        histograms: result of `count_scores`.
        draws: attribute -> number of rows.
        seed: of the draw.

    Returns:
        The attributes with their strata, and the items in `SAMPLE_SCHEMA`: attribute by attribute, in random order,
        so that whoever stops early has judged a random part.
    """
    plans = {name: plan_strata(histograms[name], draws[name]) for name in table.attributes}
    takers = {name: [LowestRows(int(each)) for each in plan.num_draws] for name, plan in plans.items()}
    keys = {name: seed_bits(seed, name) for name in table.attributes}
    for rows in table.read():
        for name, attribute in table.attributes.items():
            scores, known = read_scores(rows, attribute)
            priority = mix_bits(rows["row"].to_numpy().astype(np.uint64) ^ keys[name])
            stratum = np.where(known, find_stratum(scores, plans[name].edges), -1)
            for index, taker in enumerate(takers[name]):
                here = np.flatnonzero(stratum == index)
                taker.add(rows, here, priority[here], scores[here])
    attributes = [
        AuditedAttribute(
            attribute=attribute,
            decision=table.decisions.get(name, Decision()),
            strata=tuple(_describe_strata(plans[name])),
        )
        for name, attribute in table.attributes.items()
    ]
    return attributes, number_items([_items(each, takers[each.attribute.name]) for each in attributes])


def number_items(parts: Sequence[pa.Table]) -> pa.Table:
    """Returns the items of all parts in their order, numbered from 0."""
    items = pa.concat_tables(parts)
    return items.set_column(0, SAMPLE_SCHEMA.field("item"), pa.array(np.arange(len(items)), pa.int32()))


def _describe_strata(plan: StrataPlan) -> Iterator[Stratum]:
    for index, (rows, draws) in enumerate(zip(plan.num_rows, plan.num_draws, strict=True)):
        low, high = plan.edges[index : index + 2].tolist()
        yield Stratum(low=low, high=high, num_rows=int(rows), num_sampled=int(draws))


class LowestRows:
    """The rows with the lowest priorities, of all that were added.

    Attributes:
        priority: uint64 [n], ascending.
        scores: float64 [n]; NaN where a row has none.
        rows: the rows; None before the first.
    """

    def __init__(self, size: int) -> None:
        """Begins empty. `size`: most rows that are kept."""
        self._size = size
        self.priority = np.empty(0, np.uint64)
        self.scores = np.empty(0)
        self.rows: pa.Table | None = None

    def add(self, rows: pa.Table, places: np.ndarray, priority: np.ndarray, scores: np.ndarray) -> None:
        """Adds some rows of a table.

        Args:
            rows: the table.
            places: int64 [n], which of its rows.
            priority: uint64 [n].
            scores: float64 [n].
        """
        if len(self.priority) == self._size and self._size:
            better = priority < self.priority.max()
            places, priority, scores = places[better], priority[better], scores[better]
        if not len(places) or not self._size:
            return
        taken = rows.take(pa.array(places))
        self.rows = taken if self.rows is None else pa.concat_tables([self.rows, taken])
        self.priority = np.concatenate([self.priority, priority])
        self.scores = np.concatenate([self.scores, scores])
        kept = np.argsort(self.priority, kind="stable")[: self._size]
        self.rows, self.priority, self.scores = self.rows.take(pa.array(kept)), self.priority[kept], self.scores[kept]


def _items(audited: AuditedAttribute, takers: Sequence[LowestRows]) -> pa.Table:
    """Returns the items of an attribute in random order."""
    parts, priorities = [], []
    for index, (stratum, taker) in enumerate(zip(audited.strata, takers, strict=True)):
        if taker.rows is not None:
            probability = stratum.num_sampled / stratum.num_rows
            parts.append(describe_items(audited.attribute.name, taker, stratum=index, probability=probability))
            priorities.append(taker.priority)
    # Mixed again: the priorities of a stratum with few of its rows in the sample are the lower ones.
    order = np.argsort(mix_bits(np.concatenate(priorities)), kind="stable")
    return pa.concat_tables(parts).take(pa.array(order))


def describe_items(
    name: str,
    taken: LowestRows,
    *,
    reason: str = DRAWN,
    stratum: int | None = None,
    probability: float | None = None,
    has_label: bool = True,
) -> pa.Table:
    """Returns taken rows in `SAMPLE_SCHEMA`, not yet numbered.

    Args:
        name: of the attribute.
        taken: the rows, at least one.
        reason: why they are in the sample.
        stratum: of random draws.
        probability: of random draws.
        has_label: whether the rows have a column with the attribute's labels.
    """
    rows = taken.rows
    assert rows is not None
    count = len(rows)
    columns = {
        "item": pa.array(np.zeros(count), pa.int32()),
        "attribute": pa.array([name] * count),
        **{column: rows[column] for column in _COPIED},
        "score": pa.array(taken.scores, pa.float32(), mask=np.isnan(taken.scores)),
        "label": rows[name].cast(pa.int32()) if has_label else pa.nulls(count, pa.int32()),
        "reason": pa.array([reason] * count),
        "stratum": pa.array([stratum] * count, pa.int16()),
        "probability": pa.array([probability] * count, pa.float64()),
        "copy": pa.nulls(count, pa.string()),
    }
    return pa.table([columns[each.name].cast(each.type) for each in SAMPLE_SCHEMA], SAMPLE_SCHEMA)


def seed_bits(seed: int, name: str) -> np.uint64:
    """Returns 64 bits that differ by seed and name; with a row's number they make its priority."""
    return np.random.SeedSequence([seed, *name.encode()]).generate_state(1, np.uint64)[0]


def mix_bits(values: np.ndarray) -> np.ndarray:
    """Returns pseudo-random 64-bit numbers, one for each value: SplitMix64 (Steele, Lea and Flood 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
