import numpy as np
import pytest
import torch

from faceattr.errors import ModelError
from faceattr.vqa.batching import HalvingBatcher


class SmallMemory:
    """Doubles its rows; more than `capacity` at once do not fit."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.tried = []

    def __call__(self, rows):
        self.tried.append(len(rows))
        if len(rows) > self.capacity:
            raise torch.OutOfMemoryError("tried to allocate 2 GiB")
        return rows * 2


def test_a_batch_that_fits_is_not_cut():
    forward = SmallMemory(capacity=4)
    rows = np.arange(10).reshape(10, 1)
    np.testing.assert_array_equal(HalvingBatcher(forward, 4)(rows), rows * 2)
    assert forward.tried == [4, 4, 2]


def test_halves_until_it_fits_and_remembers(caplog):
    forward = SmallMemory(capacity=3)
    batcher = HalvingBatcher(forward, 8)
    rows = np.arange(9).reshape(9, 1)
    np.testing.assert_array_equal(batcher(rows), rows * 2)
    assert forward.tried == [8, 4, 2, 2, 2, 2, 1]
    assert batcher.batch_size == 2
    assert "batch_halved reason=out_of_memory batch_size=2" in caplog.text
    forward.tried.clear()
    batcher(rows[:5])
    assert forward.tried == [2, 2, 1]


def test_what_is_halved_is_the_batch_that_was_tried():
    forward = SmallMemory(capacity=3)
    batcher = HalvingBatcher(forward, 64)
    batcher(np.arange(4))
    assert forward.tried == [4, 2, 2]
    assert batcher.batch_size == 2


def test_memory_can_shrink_in_the_middle():
    """Another process takes memory after the first batch: nothing is lost or done twice."""

    class ShrinkingMemory(SmallMemory):
        def __call__(self, rows):
            result = super().__call__(rows)
            self.capacity = 1
            return result

    rows = np.arange(7)
    np.testing.assert_array_equal(HalvingBatcher(ShrinkingMemory(4), 4)(rows), rows * 2)


def test_one_row_that_does_not_fit_is_an_error():
    with pytest.raises(ModelError, match=r"one image does not fit.*tried to allocate 2 GiB.*larger share of the GPU"):
        HalvingBatcher(SmallMemory(capacity=0), 2)(np.arange(3))


def test_other_errors_pass():
    def fail(rows):
        raise RuntimeError("not about memory")

    with pytest.raises(RuntimeError, match="not about memory"):
        HalvingBatcher(fail, 2)(np.arange(3))
