"""Scores, losses and flags are those that were written down."""

import pytest

from tests.goldens import losses, scores
from tests.goldens.compare import list_differences, read_expected
from tests.goldens.flags import collect_flags
from tests.goldens.losses import collect_losses
from tests.goldens.scores import collect_scores


def test_the_tiny_blip_scores_faces_as_before():
    assert list_differences(collect_scores(), read_expected("scores"), absolute=scores.TOLERANCE) == []


def test_three_steps_of_a_training_lose_as_before():
    tolerance = losses.TOLERANCE
    assert list_differences(collect_losses(), read_expected("losses"), relative=tolerance, absolute=tolerance) == []


def test_flags_types_and_defaults_are_as_before():
    assert list_differences(collect_flags(), read_expected("flags")) == []


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({"a": 1.0, "b": [True, "x"]}, None),
        ({"a": 1.0 + 1e-9, "b": [True, "x"]}, None),
        ({"a": 1.1, "b": [True, "x"]}, "/a: expected 1.0, found 1.1"),
        ({"a": 1.0, "b": [1, "x"]}, "/b[0]: expected True, found 1"),
        ({"a": 1.0, "b": [True]}, "/b: expected [True, 'x'], found [True]"),
        ({"b": [True, "x"], "a": 1.0}, ": expected the keys ['a', 'b'], found ['b', 'a']"),
    ],
)
def test_a_difference_is_a_line(found, line):
    lines = list_differences(found, {"a": 1.0, "b": [True, "x"]}, relative=1e-6)
    assert lines == ([] if line is None else [line])
