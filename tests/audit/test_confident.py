"""Confident learning: an example that was worked out by hand, and the definition written as loops."""

import numpy as np
import pytest

from faceattr.audit.issues.confident import judge_labels


def test_six_labels_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    yes = np.array([0.1, 0.2, 0.9, 0.8, 0.9, 0.3], np.float32)
    judged = judge_labels(labels, np.stack([1 - yes, yes], 1))
    # Thresholds: (0.9 + 0.8 + 0.1) / 3 = 0.6 and (0.8 + 0.9 + 0.3) / 3 = 0.667; all six rows exceed one of them.
    assert judged.suggested.tolist() == [0, 0, 1, 1, 1, 0]
    assert judged.is_issue.tolist() == [False, False, True, False, False, True]
    assert judged.confidence == pytest.approx([0.9, 0.8, 0.1, 0.8, 0.9, 0.3])
    assert judged.margin == pytest.approx([0.8, 0.6, -0.8, 0.6, 0.8, -0.4])
    assert judged.joint == pytest.approx(np.array([[2, 1], [1, 2]]) / 6)
    assert judged.expected_issues == pytest.approx(2)


def test_a_row_below_all_thresholds_is_no_issue():
    labels = np.array([0, 0, 1, 1])
    yes = np.array([0.0, 0.55, 1.0, 1.0], np.float32)  # thresholds 0.725 and 1
    judged = judge_labels(labels, np.stack([1 - yes, yes], 1))
    assert judged.is_issue.tolist() == [False] * 4
    assert judged.suggested.tolist() == [0, 1, 1, 1]
    # The rows that were counted are all on the diagonal: each class keeps its share.
    assert judged.joint == pytest.approx(np.diag([0.5, 0.5]))


def test_the_definition_in_loops():
    rng = np.random.default_rng(4)
    num_rows, num_classes = 300, 4
    labels = rng.choice(num_classes, num_rows, p=[0.5, 0.3, 0.2, 0.0])  # nobody was given class 3
    probabilities = rng.dirichlet(np.ones(num_classes), num_rows).astype(np.float32)
    judged = judge_labels(labels, probabilities)
    thresholds = {
        each: np.mean([p[each] for p, label in zip(probabilities, labels, strict=True) if label == each])
        for each in range(3)
    }
    counts = np.zeros((num_classes, num_classes))
    issues = []
    for p, label in zip(probabilities, labels, strict=True):
        confident = [each for each in range(3) if p[each] >= thresholds[each]]
        true = max(confident, key=lambda each: p[each]) if confident else None
        issues.append(true is not None and true != label)
        if true is not None:
            counts[label, true] += 1
    assert judged.is_issue.tolist() == issues
    joint = np.array([counts[each] / counts[each].sum() * (labels == each).sum() for each in range(3)]) / num_rows
    assert judged.joint[:3] == pytest.approx(joint)
    assert judged.joint[3] == pytest.approx(np.zeros(num_classes))


def test_planted_errors_come_first():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 2, 1_000)
    yes = np.clip(np.where(truth == 1, 0.9, 0.1) + rng.normal(0, 0.15, 1_000), 0.001, 0.999).astype(np.float32)
    planted = rng.choice(1_000, 50, replace=False)
    labels = truth.copy()
    labels[planted] = 1 - labels[planted]
    judged = judge_labels(labels, np.stack([1 - yes, yes], 1))
    first = np.argsort(judged.margin)[:50]
    assert len(set(first.tolist()) & set(planted.tolist())) >= 45
    assert judged.expected_issues == pytest.approx(50, abs=15)
