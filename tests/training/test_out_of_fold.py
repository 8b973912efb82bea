"""Out-of-fold probabilities: a row's own label does not reach them, and scikit-learn's folds give the same."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from faceattr.training.features.out_of_fold import NO_LABEL, ClassLabels, score_out_of_fold

CPU = torch.device("cpu")


def draw(num_rows: int, num_classes: int, seed: int = 0):
    """Features that say much about the class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    centres = rng.normal(0, 1, (num_classes, 6))
    features = centres[labels] + rng.normal(0, 1.2, (num_rows, 6))
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels)


def score(features, folds, **labels):
    given = {name: ClassLabels(labels=each, num_classes=int(each.max()) + 1) for name, each in labels.items()}
    return score_out_of_fold(features, given, folds, seed=0, device=CPU)


def test_a_rows_own_label_does_not_reach_its_probabilities():
    features, labels = draw(200, 2)
    folds = torch.arange(200) % 4
    before = score(features, folds, hat=labels)["hat"]
    flipped = labels.clone()
    flipped[8] = 1 - flipped[8]  # of fold 0
    after = score(features, folds, hat=flipped)["hat"]
    torch.testing.assert_close(after[8], before[8], rtol=0, atol=0)
    others = (folds == 1).nonzero().ravel()
    assert (after[others] != before[others]).any()


def test_folds_of_scikit_learn_give_the_same():
    features, labels = draw(400, 3)
    tone = labels.clone()
    tone[::5] = NO_LABEL
    folds = torch.arange(400) % 5
    found = score(features, folds, hat=(labels == 0).long(), tone=tone)
    scaled = ((features - features.mean(0)) / features.std(0)).numpy()
    for name, given in (("hat", (labels == 0).long()), ("tone", tone)):
        expected = np.empty_like(found[name].numpy())
        for fold in range(5):
            learns = ((folds != fold) & (given != NO_LABEL)).numpy()
            model = LogisticRegression(C=1.0, max_iter=1_000).fit(scaled[learns], given.numpy()[learns])
            expected[folds.numpy() == fold] = model.predict_proba(scaled[folds.numpy() == fold])
        assert found[name].sum(1).numpy() == pytest.approx(1, abs=1e-5)
        # Both are regularised, by an amount of their own.
        assert np.abs(found[name].numpy() - expected).mean() < 0.03


def test_a_feature_that_never_changes_is_no_harm():
    features, labels = draw(100, 2)
    features = torch.cat([features, torch.full((100, 1), 3.0)], 1)
    found = score(features, torch.arange(100) % 2, hat=labels)["hat"]
    assert found.isfinite().all()
    assert ((found.argmax(1) == labels).float().mean()) > 0.8
