import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from faceattr.attributes import Attribute, AttributeSet
from faceattr.errors import RunError
from faceattr.training.curves import NUM_SCORE_BINS, add_logits, compute_auc, compute_average_precision
from faceattr.training.metrics import Metrics
from tests.training.toy import AGE, ATTRIBUTES, HAT, PERSON, TONE, ages, binary, build_toy, classes, make_batch

RNG = np.random.default_rng(0)


def figures(attribute, *batches, **kwargs):
    metrics = Metrics(AttributeSet(attributes=(attribute,)), **kwargs)
    for outputs, targets in batches:
        metrics.add({attribute.name: outputs}, {attribute.name: targets})
    return {key.partition("/")[2]: value for key, value in metrics.finish().items()}


@pytest.mark.parametrize("seed", range(5))
def test_binary_figures_equal_sklearn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 200)
    # Float16 values with many ties: the histogram loses nothing of them.
    logits = np.round(rng.normal(labels, 1.5), 1).astype(np.float16).astype(np.float32)
    outputs = torch.from_numpy(logits)[:, None]
    found = figures(HAT, (outputs[:90], binary(labels[:90].tolist())), (outputs[90:], binary(labels[90:].tolist())))
    predictions = logits >= 0
    assert found == pytest.approx(
        {
            "accuracy": sk.accuracy_score(labels, predictions),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, predictions),
            "precision": sk.precision_score(labels, predictions),
            "recall": sk.recall_score(labels, predictions),
            "f1": sk.f1_score(labels, predictions),
            "ap": sk.average_precision_score(labels, logits),
            "auc": sk.roc_auc_score(labels, logits),
            "count": 200,
        }
    )


def test_rounded_logits_rank_like_exact_ones():
    labels = RNG.integers(0, 2, 5000)
    logits = RNG.normal(labels * 2, 2).astype(np.float32)
    histogram = torch.zeros(2, NUM_SCORE_BINS).double()
    add_logits(histogram, torch.from_numpy(logits), torch.from_numpy(labels))
    assert compute_auc(histogram) == pytest.approx(sk.roc_auc_score(labels, logits), abs=1e-5)
    assert compute_average_precision(histogram) == pytest.approx(sk.average_precision_score(labels, logits), abs=1e-4)


def bin_logits() -> torch.Tensor:
    """Each bin's logit, float32 [NUM_SCORE_BINS], rising; the ends are infinite and NaN, and have no counts."""
    bins = torch.arange(NUM_SCORE_BINS)
    bits = torch.where(bins >= NUM_SCORE_BINS // 2, bins - NUM_SCORE_BINS // 2, NUM_SCORE_BINS - 1 - bins)
    return bits.to(torch.int32).to(torch.int16).view(torch.float16).float()


def test_bins_are_in_order_and_hold_their_logit():
    logits = torch.tensor([-1e9, -65504, -2.5, -6e-8, -0.0, 0.0, 6e-8, 1.0, 1.001, 7.0, 65504, 1e9])
    histogram = torch.zeros(2, NUM_SCORE_BINS).double()
    add_logits(histogram, logits, torch.zeros(len(logits)))
    assert histogram.sum() == len(logits)
    found = bin_logits()[histogram[0].nonzero()[:, 0]].tolist()
    wanted = sorted({float(each) for each in logits.clamp(-65504, 65504).half()})
    assert found == wanted


def test_a_threshold_cuts_the_score():
    # Scores 0.5, 0.75, 0.9.
    outputs = torch.tensor([[0.0], [math.log(3)], [math.log(9)]])
    labels = binary([1, 0, 1])
    assert figures(HAT, (outputs, labels))["recall"] == 1.0
    strict = figures(HAT, (outputs, labels), thresholds={"hat": 0.8})
    assert (strict["recall"], strict["precision"], strict["accuracy"]) == (0.5, 1.0, pytest.approx(2 / 3))


def test_unknown_labels_and_scores_alone_judge_nothing():
    outputs = torch.tensor([[9.0], [-9.0], [9.0]])
    found = figures(HAT, (outputs, binary([1, None, None], score=[None, 0.9, None])))
    assert (found["count"], found["accuracy"]) == (1.0, 1.0)


def test_what_is_not_defined_is_nan():
    no_yes = figures(HAT, (torch.tensor([[-1.0], [-2.0]]), binary([0, 0])))
    assert no_yes["accuracy"] == no_yes["balanced_accuracy"] == 1.0
    for name in ("precision", "recall", "f1", "ap", "auc"):
        assert math.isnan(no_yes[name])
    false_alarm = figures(HAT, (torch.tensor([[1.0], [-2.0]]), binary([0, 0])))
    assert (false_alarm["precision"], false_alarm["f1"]) == (0.0, 0.0)
    nothing = figures(HAT)
    assert nothing["count"] == 0
    assert math.isnan(nothing["accuracy"])
    empty = figures(AGE)
    assert math.isnan(empty["mae"])
    assert math.isnan(empty["rmse"])


def test_class_figures_equal_sklearn():
    attribute = Attribute(name="race", kind="multiclass", classes=tuple("abcde"))
    # Class 3 never occurs, class 4 is predicted only: sklearn's means leave out what neither does.
    labels = RNG.integers(0, 3, 150)
    outputs = RNG.normal(size=(150, 5)).astype(np.float32)
    outputs[np.arange(150), labels] += 1
    outputs[:, 3] = -100
    predictions = outputs.argmax(1)
    found = figures(attribute, (torch.from_numpy(outputs), classes(labels.tolist(), 5)))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, predictions))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, predictions, average="macro"))
    recalls = sk.recall_score(labels, predictions, labels=[0, 1, 2], average=None)
    assert found["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert found["empty_classes"] == 2
    assert [found[f"recall/{name}"] for name in "abc"] == pytest.approx(recalls.tolist())
    assert math.isnan(found["recall/d"])
    assert math.isnan(found["f1/d"])
    assert found["f1/e"] == 0.0


def test_coarse_labels_are_judged_apart():
    outputs = torch.eye(3)[[0, 1, 2, 2]]
    found = figures(TONE, (outputs, classes([0, {1, 2}, {0, 1}, None], 3)))
    assert (found["count"], found["accuracy"], found["coarse_accuracy"]) == (1.0, 1.0, 0.5)


def test_age_figures_by_hand():
    outputs = torch.tensor([[22.0], [36.0], [25.0], [30.0], [1.0]])
    found = figures(AGE, (outputs, ages([25, 30, (20, 30), (20, 30), None])))
    assert found == pytest.approx(
        {"mae": 4.5, "rmse": math.sqrt(22.5), "bias": 1.5, "within_5": 0.5, "range_accuracy": 0.5, "count": 4}
    )


def test_identity_figures_equal_sklearn():
    attribute = Attribute(name="person", kind="identity", classes=tuple(f"p{i}" for i in range(9)))
    labels = RNG.integers(0, 8, 300)
    outputs = RNG.normal(size=(300, 9)).astype(np.float32)
    outputs[np.arange(300), labels] += 1
    found = figures(attribute, (torch.from_numpy(outputs), classes(labels.tolist(), 9)))
    assert found["top1"] == pytest.approx(sk.accuracy_score(labels, outputs.argmax(1)))
    assert found["top5"] == pytest.approx(sk.top_k_accuracy_score(labels, outputs, k=5, labels=range(9)))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, outputs.argmax(1), average="macro"))
    assert found["empty_classes"] == 1


def test_merging_and_reducing_add_counts():
    model = build_toy().eval()
    batches = [make_batch(20, seed) for seed in range(3)]
    whole, first, rest = (Metrics(ATTRIBUTES) for _ in range(3))
    for index, batch in enumerate(batches):
        outputs = model(batch.inputs / 255)
        whole.add(outputs, batch.targets)
        (first if index == 0 else rest).add(outputs, batch.targets)
    flat = torch.cat([count.flatten() for each in rest.by_attribute.values() for count in each.counts.values()])
    merged = Metrics(ATTRIBUTES)
    merged.merge(first)
    merged.merge(rest)
    first.reduce(lambda tensor: tensor + flat)
    assert merged.finish() == pytest.approx(whole.finish(), nan_ok=True)
    assert first.finish() == pytest.approx(whole.finish(), nan_ok=True)


def test_outputs_that_are_not_finite_are_an_error():
    with pytest.raises(RunError, match=r"'person'.*not finite"):
        figures(PERSON, (torch.tensor([[0.0, math.nan, 0.0, 0.0]]), classes([1], 4)))
