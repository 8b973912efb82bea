"""Scores of a teacher with a threshold of its own: 0.5 is its cut wherever they are learnt from."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit

from faceattr.data.runs.run_attributes import Decision
from faceattr.data.sources.gather import combine_sources
from faceattr.data.sources.recentring import Recentring, measure_recentrings
from faceattr.data.sources.registry import open_source
from tests.label_runs import write_label_run


def column(values, kind):
    return pa.chunked_array([pa.array(values, kind)])


def test_log_odds_are_moved_by_those_of_the_threshold():
    scores = [0.05, 0.2, 0.3, 0.5, 0.9, None]
    found = Recentring(threshold=0.2).apply(column(scores, pa.float32()), column([0, 1, 1, 1, 1, None], pa.int8()))
    wanted = expit(logit(np.array(scores[:-1])) - logit(0.2))
    assert found.to_pylist()[:-1] == pytest.approx(wanted, abs=1e-6)
    assert found.to_pylist()[1:4:2] == pytest.approx([0.5, 0.8], abs=1e-6)  # even odds are 4 times the odds of 0.2
    assert found.null_count == 1


@pytest.mark.parametrize("slopes", [{}, {"yes_slope": 4.66}, {"no_slope": 1e5}])
@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.2, 0.3, 0.484, 0.7, 0.999, 1.0])
def test_every_label_is_the_one_that_its_moved_score_gives(threshold, slopes):
    cut = np.float32(threshold)
    near = [np.nextafter(cut, np.float32(0)), cut, np.nextafter(cut, np.float32(1)), np.float32(0), np.float32(1)]
    scores = np.sort(np.r_[np.random.default_rng(0).random(1000, np.float32), np.array(near, np.float32)])
    labels = scores >= threshold  # as a label run decides
    recentring = Recentring(threshold=threshold, **slopes)
    moved = recentring.apply(column(scores, pa.float32()), column(labels.astype(np.int8), pa.int8())).to_numpy()
    assert np.array_equal(moved >= 0.5, labels)
    assert (np.diff(moved) >= 0).all()
    assert (moved[0], moved[-1]) == (float(labels[0]), 1.0)


def teacher_table(scores, threshold):
    """Rows of a run; one in ten has no label."""
    scores = np.asarray(scores, np.float32)
    labels = pa.array((scores >= threshold).astype(np.int8), mask=np.arange(len(scores)) % 10 == 9)
    return pa.table({"hat": labels, "hat_score": scores})


def test_the_side_that_is_less_sure_becomes_as_sure_as_the_other():
    # Even odds are at 3 to 1: 9/11 becomes 4.5 / 3 = 3 to 2, or .6; 1/4 becomes 1/3 / 3 = 1 to 9, or .1.
    table = teacher_table([9 / 11, 1 / 4, 9 / 11], 0.75)
    (found,) = measure_recentrings([table], {"hat": Decision(threshold=0.75)}).values()
    assert found.no_slope == 1
    assert found.yes_slope == pytest.approx(np.log(9) / np.log(1.5), rel=1e-5)  # .6 must become .9
    assert found.apply(table["hat_score"], table["hat"]).to_pylist() == pytest.approx([0.9, 0.1, 0.9], abs=1e-5)


def test_slopes_are_those_of_all_rows_in_whatever_tables_they_come():
    rng = np.random.default_rng(0)
    scores = np.r_[rng.beta(0.3, 4, 3000), rng.beta(30, 1, 2000), 0, 1].astype(np.float32)
    tables = [teacher_table(part, 0.9) for part in np.array_split(rng.permutation(scores), 7)]
    (found,) = measure_recentrings(tables, {"hat": Decision(threshold=0.9)}).values()
    labels = np.concatenate([table["hat"].fill_null(-1).to_numpy() for table in tables])
    moved = logit(np.concatenate([table["hat_score"].to_numpy() for table in tables]).astype(float)) - logit(0.9)
    no, yes = (np.abs(moved[labels == value]) for value in (0, 1))
    wanted = np.tanh(no / 2).mean()
    assert np.tanh(yes / 2).mean() < wanted - 0.2
    assert found.no_slope == 1
    slope = brentq(lambda slope: np.tanh(slope * yes / 2).mean() - wanted, 1, 100)
    assert found.yes_slope == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("scores", [[0.8, 0.9], [0.1, 0.2], [], [None, None]])
def test_with_labels_of_one_kind_nothing_is_stretched(scores):
    labels = [None if score is None else int(score >= 0.3) for score in scores]
    table = pa.table({"hat": pa.array(labels, pa.int8()), "hat_score": pa.array(scores, pa.float32())})
    found = measure_recentrings([table], {"hat": Decision(threshold=0.3)})
    assert found == {"hat": Recentring(threshold=0.3)}


def test_scores_that_are_all_at_the_threshold_stay_there():
    table = teacher_table([0.5, 0.5, 0.1], 0.5)
    (found,) = measure_recentrings([table], {"hat": Decision(threshold=0.5)}).values()
    assert found.apply(table["hat_score"], table["hat"]).to_pylist() == pytest.approx([0.5, 0.5, 0.1])


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
    # Odds of 1/3, 1 and 1/19 to one, over 1/4 to one: 4/3, 4 and 4/19. The no is sure by 1 - 2 * 4/23 = 15/23, so the
    # yes becomes 19/23, which is 4 raised to this slope.
    slope = np.log(19 / 4) / np.log(4)
    assert found["low/0.png"] == pytest.approx((4 / 3) ** slope / (1 + (4 / 3) ** slope), rel=1e-5)
    assert found["low/1.png"] == pytest.approx(19 / 23, rel=1e-5)
    assert found["low/2.png"] == pytest.approx(4 / 23)
    assert [found[f"usual/{number}.png"] for number in range(3)] == [0.25, 0.5, 0.75]
    decisions = combine_sources(sources).decisions
    assert {name: (each.threshold, each.abstain) for name, each in decisions.items()} == {"low/hat": (0.2, (0.1, 0.3))}
