"""Verification figures by hand and against a search over all thresholds; lists of pairs and their mistakes."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from faceattr.config import StorageConfig
from faceattr.data.formats.pair_lists import ImagePair, read_pairs
from faceattr.errors import ConfigError
from faceattr.evaluation.verification import judge_pairs
from faceattr.jobs.evaluate.verify import describe_verification, find_pairs, verify_pairs

SAME = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
SIMILAR = np.array([0.9, 0.8, 0.6, 0.3, 0.7, 0.4, 0.2, 0.1])


def test_figures_by_hand():
    """Without a wrong accept, 0.9 and 0.8 are accepted; both errors are one in four at a threshold of 0.6."""
    found = judge_pairs(SIMILAR, SAME, np.array([0, 1, 0, 1, 0, 1, 0, 1]))
    assert (found.num_same, found.num_different, found.num_folds) == (4, 4, 2)
    assert found.tar == {0.1: None, 0.01: None, 0.001: None, 0.0001: None}  # one of four is more than a tenth
    assert found.eer == pytest.approx(0.25)
    assert found.auc == pytest.approx(13 / 16)
    # Fold 1's own best threshold on 0.8 0.3 | 0.4 0.1 is 0.8, three of four right: it accepts 0.9 alone of fold 0.
    # Fold 0's on 0.9 0.6 | 0.7 0.2 is 0.9 (or 0.6): at 0.9 it accepts none of fold 1, so two are right.
    assert found.accuracy == pytest.approx((0.75 + 0.5) / 2)
    assert found.accuracy_error == pytest.approx(0.125)


def test_tar_is_that_of_the_best_threshold_that_keeps_the_false_accepts():
    rng = np.random.default_rng(0)
    same = rng.random(3_000) < 0.3
    similar = rng.normal(same * 1.5, 1.0).round(2)  # with ties
    found = judge_pairs(similar, same)
    for rate, share in found.tar.items():
        best = max(
            ((similar[same] >= cut).mean() for cut in np.unique(similar) if (similar[~same] >= cut).mean() <= rate),
            default=0.0,
        )
        assert share == (pytest.approx(best) if rate >= 0.001 else None)
    assert found.auc == pytest.approx(roc_auc_score(same, similar))
    wrong = min(
        ((similar[~same] >= cut).mean() + (similar[same] < cut).mean()) / 2
        for cut in np.unique(similar)
        if abs((similar[~same] >= cut).mean() - (similar[same] < cut).mean()) < 0.02
    )
    assert found.eer == pytest.approx(wrong, abs=0.01)
    assert found.num_folds == 10
    assert 0.75 < found.accuracy < 0.85
    assert 0 < found.accuracy_error < 0.02


@pytest.mark.parametrize(
    ("same", "folds", "problem"),
    [
        (
            [1, 1, 1, 0],
            None,
            "expected two pairs or more of the same person and two of different ones .* found 3 and 1",
        ),
        ([1, 1, 0, 0], [0, 0, 0, 0], "expected two folds or more"),
        ([1, 1, 0, 0], [0, 0, 1, 1], "in all but each of them pairs of both kinds"),
    ],
)
def test_too_few_pairs_are_refused(same, folds, problem):
    given = None if folds is None else np.array(folds)
    with pytest.raises(ConfigError, match=f"--pairs: .*{problem}"):
        judge_pairs(np.arange(4.0), np.array(same, bool), given)


def pair(first, second, same, fold=None):
    return ImagePair(first=first, second=second, same=same, fold=fold)


def test_pairs_are_compared_by_the_cosine_of_their_embeddings():
    angles = {"a": 0.0, "b": 0.2, "c": 2.0, "d": 2.1}
    judged = pa.table(
        {
            "image_id": list(angles),
            "embedding": pa.array([[np.cos(t), np.sin(t)] for t in angles.values()], pa.list_(pa.float32())),
        }
    )
    pairs = [pair("a", "b", True), pair("c", "d", True), pair("a", "c", False), pair("d", "b", False)]
    figures, num_missing = verify_pairs(judged, [*pairs, pair("a", "zz", True)], name="pairs.csv")
    assert (figures.num_same, figures.num_different, num_missing) == (2, 2, 1)
    assert (figures.auc, figures.eer) == (1.0, 0.0)
    first, note = describe_verification(figures, num_missing)
    assert "verification of 2 pairs of the same and 2 of different persons" in first
    assert "too few pairs for 0.1" in first
    assert "1 pairs name an image" in note


@pytest.mark.parametrize(
    ("ids", "pairs", "problem"),
    [
        (["a", "b"], [pair("x", "a", True)], "none of its 1 pairs has both images among the 2 .*'x'.* such as 'a'"),
        (["a", "b"], [], "none of its 0 pairs"),
        (["a", "b", "a"], [pair("a", "b", True)], "more than one image 'a'; evaluate one packed run alone"),
    ],
)
def test_pairs_that_the_data_do_not_have_are_refused(ids, pairs, problem):
    with pytest.raises(ConfigError, match=f"--pairs list.csv: .*{problem}"):
        find_pairs(ids, pairs, name="list.csv")


def test_lists_are_read(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('first,second,same,fold\n"a, 1.jpg",b.jpg,1,0\nc.jpg,d.jpg,0,9\n')
    assert read_pairs(str(path), StorageConfig()) == [
        pair("a, 1.jpg", "b.jpg", True, 0),
        pair("c.jpg", "d.jpg", False, 9),
    ]
    path.write_text("same\tsecond\tfirst\n1\tb\ta\n")
    assert read_pairs(str(path), StorageConfig()) == [pair("a", "b", True)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("first,second\na,b\n", "line 1: no column 'same'; expected first, second, same and perhaps fold"),
        ("first,second,same\na,b,yes\n", "line 2: same is 'yes'; expected 1 or 0"),
        ("first,second,same,fold\na,b,1,x\n", "line 2: fold is 'x'; expected a number"),
        ("first,second,same\na,b\n", "line 2: 2 cells; expected 3"),
    ],
)
def test_mistakes_in_a_list_are_named_with_their_line(tmp_path, text, problem):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"pairs.csv cannot be read as a table: {problem}"):
        read_pairs(str(path), StorageConfig())
