"""Judged rows of every kind, drawn so that labels and scores have to do with each other."""

import numpy as np

from faceattr.attributes import Attribute
from faceattr.evaluation.judged import JudgedRows

BINARY = Attribute(name="hat")
CLASSES = Attribute(name="hair", kind="multiclass", classes=("black", "brown", "gray", "red"))
AGE = Attribute(name="age", kind="age", classes=())
PERSON = Attribute(name="person", kind="identity", classes=tuple(f"p{number}" for number in range(40)))


def softmax(logits):
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def binary(num=400, *, seed=0, decimals=None, shift=0.0) -> JudgedRows:
    rng = np.random.default_rng(seed)
    labels = (rng.random(num) < 0.3).astype(np.int64)
    logits = (2 * labels - 1 + rng.normal(0, 1.5, num) + shift).astype(np.float32)
    if decimals is not None:  # many equal scores
        logits = logits.round(decimals)
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return JudgedRows(
        attribute=BINARY,
        rows=np.arange(num),
        labels=labels,
        outputs=logits,
        scores=scores,
        predictions=(scores >= 0.4).astype(np.int64),
    )


def multiclass(num=400, *, seed=0, without=()) -> JudgedRows:
    rng = np.random.default_rng(seed)
    present = [index for index in range(4) if index not in without]
    labels = rng.choice(present, num)
    logits = (2 * np.eye(4)[labels] + rng.normal(0, 1.5, (num, 4))).astype(np.float32)
    scores = softmax(logits.astype(np.float64))
    return JudgedRows(
        attribute=CLASSES,
        rows=np.arange(num),
        labels=labels,
        outputs=logits,
        scores=scores,
        predictions=scores.argmax(1),
    )


def ages(num=400, *, seed=0, ranges=0.3) -> JudgedRows:
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 90, num).astype(np.float64)
    width = np.where(rng.random(num) < ranges, 10.0, 1.0)
    years = low + rng.normal(1, 6, num)
    return JudgedRows(
        attribute=AGE,
        rows=np.arange(num),
        labels=np.stack([low, low + width], 1),
        outputs=years.astype(np.float32),
        scores=years,
        predictions=years,
    )


def persons(num=400, *, seed=0) -> JudgedRows:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 30, num)  # ten persons have no row
    logits = 2.5 * np.eye(40)[labels] + rng.normal(0, 1.2, (num, 40))
    likeliest = np.argsort(-logits, 1)[:, :5]
    return JudgedRows(
        attribute=PERSON,
        rows=np.arange(num),
        labels=labels,
        outputs=likeliest,
        scores=softmax(logits).max(1),
        predictions=likeliest[:, 0],
    )
