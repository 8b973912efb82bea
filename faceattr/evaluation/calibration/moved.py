"""The threshold that says yes to the same outputs after a calibration has changed the scores."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from faceattr.attributes import Attribute
from faceattr.evaluation.scores import score_outputs

# A float32 score is 0 or 1 beyond these outputs, whatever the temperature up to 20.
_FARTHEST = 2_100.0
# Halvings after which the interval is narrower than a float32 near any output that matters.
_HALVINGS = 60


def move_threshold(
    threshold: float, attribute: Attribute, *, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> float:
    """Moves a threshold with the scores: the least output that was a yes is the least one that is.

    Args:
        threshold: of the scores before.
        attribute: a binary one. Its calibrations increase, so that a threshold of scores is one of outputs.
        before: calibration settings of the scores that the threshold is of; None for none.
        after: calibration settings of the new scores.

    Returns:
        The threshold of the new scores; the given one if the settings are equal, or if it said yes to none.
    """
    if before == after or _score(_FARTHEST, attribute, before) < threshold:
        return threshold
    low, high = -_FARTHEST, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _score(middle, attribute, before) >= threshold:
            high = middle
        else:
            low = middle
    return _score(high, attribute, after)


def _score(output: float, attribute: Attribute, calibration: Mapping[str, Any] | None) -> float:
    return float(score_outputs(attribute, np.array([[output]], np.float32), calibration)[0])
