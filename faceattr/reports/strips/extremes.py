"""The rows of an attribute that a person should look at first: the lowest and highest scores, and the most doubtful.

Doubt is nearness to the threshold, in log odds; of several classes it is a low score of the likeliest one.
"""

import numpy as np
import pyarrow as pa

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute
from faceattr.audit.strata import expected_share
from faceattr.data.runs.run_attributes import Decision

STRIP_LENGTH = 12
"""Images in a strip."""


class Extremes:
    """Collects the rows of one attribute; memory does not depend on their number.

    Args:
        attribute: the attribute.
        decision: how its labels are made from scores.
    """

    def __init__(self, attribute: Attribute, decision: Decision) -> None:
        self._attribute = attribute
        self._threshold = decision.threshold if attribute.has_threshold else DEFAULT_THRESHOLD
        self._rows: pa.Table | None = None

    def add(self, rows: pa.Table) -> None:
        """Adds rows. `rows`: any columns, and `score`: P(yes), or the probability of the likeliest class."""
        found = rows if self._rows is None else pa.concat_tables([self._rows, rows])
        kept = np.unique(np.concatenate(list(self._rank(found).values())))
        self._rows = found.take(pa.array(kept)).combine_chunks()

    def strips(self) -> dict[str, pa.Table]:
        """Returns title -> rows, at most `STRIP_LENGTH` of each, the most extreme first."""
        if self._rows is None:
            return {}
        return {title: self._rows.take(pa.array(places)) for title, places in self._rank(self._rows).items()}

    def distances(self, scores: np.ndarray) -> np.ndarray:
        """Returns how sure each score is, float64 [n]: larger is surer."""
        if not self._attribute.is_yes_no:
            return scores
        # A rising function of the distance in log odds.
        return np.abs(expected_share(scores, self._threshold) - DEFAULT_THRESHOLD)

    def _rank(self, rows: pa.Table) -> dict[str, np.ndarray]:
        scores = rows["score"].to_numpy().astype(np.float64)
        orders = {"Most doubtful": self.distances(scores)}
        orders |= {"Highest scores": -scores}
        if self._attribute.is_yes_no:
            orders |= {"Lowest scores": scores}
        return {title: np.argsort(order, kind="stable")[:STRIP_LENGTH] for title, order in orders.items()}
