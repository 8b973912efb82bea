"""Scores of a teacher with a threshold of its own: 0.5 is its cut wherever they are learnt from."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit, logit

from faceattr.data.sources.gather import combine_sources
from faceattr.data.sources.layouts.published import recentre_scores
from faceattr.data.sources.registry import open_source
from tests.label_runs import write_label_run


def column(values, kind):
    return pa.chunked_array([pa.array(values, kind)])


def test_log_odds_are_moved_by_those_of_the_threshold():
    scores = [0.05, 0.2, 0.3, 0.5, 0.9, None]
    found = recentre_scores(column(scores, pa.float32()), column([0, 1, 1, 1, 1, None], pa.int8()), 0.2)
    wanted = expit(logit(np.array(scores[:-1])) - logit(0.2))
    assert found.to_pylist()[:-1] == pytest.approx(wanted, abs=1e-6)
    assert found.to_pylist()[1:4:2] == pytest.approx([0.5, 0.8], abs=1e-6)  # even odds are 4 times the odds of 0.2
    assert found.null_count == 1


@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.2, 0.3, 0.484, 0.7, 0.999, 1.0])
def test_every_label_is_the_one_that_its_moved_score_gives(threshold):
    cut = np.float32(threshold)
    near = [np.nextafter(cut, np.float32(0)), cut, np.nextafter(cut, np.float32(1)), np.float32(0), np.float32(1)]
    scores = np.sort(np.r_[np.random.default_rng(0).random(1000, np.float32), np.array(near, np.float32)])
    labels = scores >= threshold  # as a label run decides
    found = recentre_scores(column(scores, pa.float32()), column(labels.astype(np.int8), pa.int8()), threshold)
    moved = found.to_numpy()
    assert np.array_equal(moved >= 0.5, labels)
    assert (np.diff(moved) >= 0).all()
    assert (moved[0], moved[-1]) == (float(labels[0]), 1.0)


def rows(*given):
    return {
        f"{place}.png": (bytes([place]), {"hat": label, "hat_score": score})
        for place, (label, score) in enumerate(given)
    }


@pytest.fixture
def runs(tmp_path):
    """Two teachers of one attribute: one says yes from 0.2 on and nothing from 0.1 to 0.3, the other the usual."""
    low = rows((None, 0.25), (1, 0.5), (0, 0.05))
    usual = rows((0, 0.25), (1, 0.5), (1, 0.75))
    decisions = {"hat": {"threshold": 0.2, "abstain": (0.1, 0.3)}}
    return {
        "low": write_label_run(tmp_path / "low", ["hat"], low, root=tmp_path, decisions=decisions),
        "usual": write_label_run(tmp_path / "usual", ["hat"], usual, root=tmp_path),
    }


def test_runs_with_different_thresholds_become_one_source_with_one_cut(runs):
    sources = {name: open_source("labels", uri) for name, uri in runs.items()}
    table, _ = combine_sources(sources).read_all()
    found = dict(zip(table["image_id"].to_pylist(), table["hat_score"].to_pylist(), strict=True))
    # 1/3, 1 and 1/19 to one, over 1/4 to one.
    assert found["low/0.png"] == pytest.approx(4 / 7)
    assert found["low/1.png"] == pytest.approx(4 / 5)
    assert found["low/2.png"] == pytest.approx(4 / 23)
    assert [found[f"usual/{number}.png"] for number in range(3)] == [0.25, 0.5, 0.75]
    decisions = combine_sources(sources).decisions
    assert {name: (each.threshold, each.abstain) for name, each in decisions.items()} == {"low/hat": (0.2, (0.1, 0.3))}
