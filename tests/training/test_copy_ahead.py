"""Batches that are copied one step ahead: their order, the producer's error and its end; on a GPU, their values."""

import pytest
import torch

from faceattr.training.loop.copy_ahead import PlacedBatch, copy_ahead
from tests.training.toy import make_batch

CPU = torch.device("cpu")
BATCHES = [make_batch(4, seed) for seed in range(3)]


class Producer:
    """Notes what is asked of it; fails at batch `failing`."""

    def __init__(self, failing=None):
        self.notes, self._failing = [], failing

    def batches(self):
        try:
            for number, batch in enumerate(BATCHES):
                if number == self._failing:
                    raise OSError("the disk is gone")
                self.notes.append(f"read {number}")
                yield batch
        finally:
            self.notes.append("closed")


class NotedCopies:
    """Copies at once, and notes when a copy begins and when computation would wait for it."""

    def __init__(self, notes):
        self._notes = notes

    def start(self, batch):
        self._notes.append("start")
        return PlacedBatch(host=batch, device=batch.to(CPU))

    def finish(self, placed):
        self._notes.append(f"finish {[batch is placed.host for batch in BATCHES].index(True)}")


def test_the_next_batch_is_copied_before_one_is_used():
    producer = Producer()
    placed = []
    for batch in copy_ahead(producer.batches(), CPU, NotedCopies(producer.notes)):
        producer.notes.append("use")
        placed.append(batch)
    assert [each.host for each in placed] == BATCHES
    assert producer.notes == [
        *("read 0", "start", "read 1", "start", "finish 0", "use"),
        *("read 2", "start", "finish 1", "use"),
        *("closed", "finish 2", "use"),
    ]


def test_on_a_cpu_batches_pass_through():
    producer = Producer()
    for number, batch in enumerate(copy_ahead(producer.batches(), CPU)):
        assert batch.host is batch.device is BATCHES[number]
        assert producer.notes[-1] == f"read {number}"  # nothing is read ahead
    assert [each.host for each in copy_ahead(BATCHES, CPU)] == BATCHES


@pytest.mark.parametrize("ahead", [False, True])
def test_the_error_of_the_producer_comes_through(ahead):
    producer = Producer(failing=1)
    copies = NotedCopies(producer.notes) if ahead else None
    with pytest.raises(OSError, match="the disk is gone"):
        list(copy_ahead(producer.batches(), CPU, copies))
    assert producer.notes[-1] == "closed"


@pytest.mark.parametrize("ahead", [False, True])
def test_who_stops_early_closes_the_producer(ahead):
    producer = Producer()
    source = producer.batches()
    batches = copy_ahead(source, CPU, NotedCopies(producer.notes) if ahead else None)
    next(batches)
    assert "closed" not in producer.notes
    batches.close()
    assert producer.notes[-1] == "closed"


def test_no_batch_is_no_batch():
    assert list(copy_ahead([], CPU, NotedCopies([]))) == []


@pytest.mark.gpu
def test_a_gpu_computes_with_what_was_copied():
    device = torch.device("cuda")
    batches = [make_batch(512, seed).pin_memory() for seed in range(20)]
    for placed in copy_ahead(iter(batches), device):
        torch.mm(torch.ones(2048, 2048, device=device), torch.ones(2048, 2048, device=device))  # keeps it busy
        for found, wanted in zip(placed.device.tensors(), placed.host.tensors(), strict=True):
            assert found.is_cuda
            torch.testing.assert_close(found.cpu(), wanted, rtol=0, atol=0, equal_nan=True)
