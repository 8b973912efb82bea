import numpy as np
import pytest
import torch

from faceattr.errors import ModelError
from faceattr.vqa.batching import HalvingBatcher
from faceattr.vqa.staging import InPlace, StagingRing


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
    np.testing.assert_array_equal(HalvingBatcher(forward, 4, staging=InPlace())(rows), rows * 2)
    assert forward.tried == [4, 4, 2]


def test_halves_until_it_fits_and_remembers(caplog):
    forward = SmallMemory(capacity=3)
    batcher = HalvingBatcher(forward, 8, staging=InPlace())
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
    batcher = HalvingBatcher(forward, 64, staging=InPlace())
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
    np.testing.assert_array_equal(HalvingBatcher(ShrinkingMemory(4), 4, staging=InPlace())(rows), rows * 2)


def test_one_row_that_does_not_fit_is_an_error():
    with pytest.raises(ModelError, match=r"one image does not fit.*tried to allocate 2 GiB.*larger share of the GPU"):
        HalvingBatcher(SmallMemory(capacity=0), 2, staging=InPlace())(np.arange(3))


def test_other_errors_pass():
    def fail(rows):
        raise RuntimeError("not about memory")

    with pytest.raises(RuntimeError, match="not about memory"):
        HalvingBatcher(fail, 2, staging=InPlace())(np.arange(3))


def test_a_fixed_shape_is_filled_up_and_cut_off():
    forward = SmallMemory(capacity=4)
    rows = np.arange(1, 11).reshape(10, 1)
    results = HalvingBatcher(forward, 4, staging=InPlace(), is_fixed=True)(rows)
    np.testing.assert_array_equal(results, rows * 2)
    assert forward.tried == [4, 4, 4]


def test_a_fixed_shape_is_halved_too():
    forward = SmallMemory(capacity=3)
    rows = np.arange(5)
    results = HalvingBatcher(forward, 4, staging=InPlace(), is_fixed=True)(rows)
    np.testing.assert_array_equal(results, rows * 2)
    assert forward.tried == [4, 2, 2, 2]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_staged_rows_arrive_whole_and_in_order(batch_size):
    """The ring of buffers, on the CPU: a buffer is used again three batches later, and by other arrays."""
    staging = StagingRing(torch.device("cpu"), page_locked=False)
    seen = []

    def forward(rows):
        seen.append(rows.clone())
        return rows.double() * 2

    batcher = HalvingBatcher(forward, batch_size, staging=staging)
    for size in (10, 3, 17):
        rows = np.random.default_rng(size).integers(0, 256, (size, 2, 3), np.uint8)
        rows.flags.writeable = False
        seen.clear()
        np.testing.assert_array_equal(batcher(rows), rows * 2.0)
        np.testing.assert_array_equal(torch.cat(seen), rows)
    wider = np.ones((5, 4), np.uint8)
    np.testing.assert_array_equal(batcher(wider), wider * 2.0)


def test_a_batch_that_fails_gives_its_buffer_back():
    staging = StagingRing(torch.device("cpu"), page_locked=False)
    forward = SmallMemory(capacity=2)
    rows = np.arange(9)
    results = HalvingBatcher(lambda staged: forward(staged.clone()), 8, staging=staging)(rows)
    np.testing.assert_array_equal(results, rows * 2)
    assert forward.tried == [8, 4, 2, 2, 2, 2, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_staging_on_a_gpu_does_not_mix_batches():
    """Slow work on the device, so that the host is ahead of it by all three buffers."""
    weight = torch.rand(512, 512, device="cuda") / 512

    def forward(rows):
        states = rows.float()
        for _ in range(50):
            states = states @ weight
        return rows.double() + 0 * states.double()

    batcher = HalvingBatcher(forward, 64, staging=StagingRing(torch.device("cuda")))
    rows = np.random.default_rng(0).integers(0, 256, (5000, 512), np.uint8)
    np.testing.assert_array_equal(batcher(rows), rows)
