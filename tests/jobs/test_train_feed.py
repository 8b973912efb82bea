"""The stream of one worker on real Ray: which rows come, in which batch, to whom."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from faceattr.attributes import AttributeSet
from faceattr.config.augmentation import Augmentation
from faceattr.config.fit import OptimSettings
from faceattr.config.train import FeedConfig, TrainConfig
from faceattr.data.packed.reader import open_packed
from faceattr.errors import RunError
from faceattr.jobs.train.feed import Feed, FeedPlan, cut_batches, fill_gaps
from faceattr.jobs.train.stages import POSITION
from faceattr.jobs.train.survey import survey_data
from faceattr.models.backbones.preprocessing import Preprocessing
from faceattr.training.inputs import TrainingInputs
from faceattr.training.targets import Batch, Targets
from tests.jobs.train_data import HAT, SIZE, numbered_row
from tests.packed_runs import write_packed_run

NUM_TRAIN, NUM_VAL, BATCH = 300, 37, 32
PLAIN = Preprocessing(size_px=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_mode="squash")
PLAIN_VIEWS = Augmentation(strength=0)
ATTRIBUTES = AttributeSet(attributes=(HAT,))


@pytest.fixture(scope="module")
def plan(ray_local, tmp_path_factory):
    """Makes a FeedPlan over 300 numbered images, every seventh of which was rejected when it was packed."""
    rows = [numbered_row(n, hat=int(n % 10 == 0)) if n % 7 else {"image": None} for n in range(NUM_TRAIN)]
    val = [numbered_row(n) for n in range(NUM_VAL)]
    folder = tmp_path_factory.mktemp("feed")
    data = open_packed([write_packed_run(folder / "packed", ATTRIBUTES, {"train": rows, "val": val}, shard_size=8)])

    def make(augment=PLAIN_VIEWS, **settings):
        feed = FeedConfig(**{"batch_size": BATCH, "block_rows": 16, **settings})
        config = TrainConfig(
            data=data.uris, output="model", feed=feed, augment=augment, seed=3, optim=OptimSettings(epochs=3)
        )
        surveys = survey_data(data, ATTRIBUTES, feed.balance, None, data.storage)
        inputs = TrainingInputs(data=data, attributes=ATTRIBUTES, surveys=surveys, storage=data.storage)
        return FeedPlan(inputs=inputs, config=config, preprocessing=PLAIN)

    return make


def open_feed(plan, rank=0, world_size=1, crops_only=False):
    return Feed(plan, rank=rank, world_size=world_size, max_decoders=1, num_feeds=2, pin=False, crops_only=crops_only)


def numbers(batch) -> list[int]:
    """Which images a batch holds, by their pixels."""
    assert batch.inputs.dtype == torch.uint8
    return (batch.inputs[:, 0, 0, 0].long() + 256 * batch.inputs[:, 1, 0, 0].long()).tolist()


def read_epoch(plan, epoch, **place):
    feed = open_feed(plan, **place)
    batches = [numbers(batch) for batch in feed.train_batches(epoch)]
    feed.close()
    return batches


USABLE = [n for n in range(NUM_TRAIN) if n % 7]


@pytest.mark.ray
@pytest.mark.slow
def test_batches_of_an_epoch(plan):
    whole = plan()
    assert whole.inputs.surveys["train"].stretches.total_rows == len(USABLE) == 257
    assert whole.num_batches == 8
    feed = open_feed(whole)
    first = list(feed.train_batches(0))
    second = [numbers(batch) for batch in feed.train_batches(1)]
    feed.close()
    found = [numbers(batch) for batch in first]
    for batch, inside in zip(first, found, strict=True):
        # Labels stay with their images.
        assert batch.targets["hat"].value.tolist() == [float(n % 10 == 0) for n in inside]
    seen = [n for batch in found for n in batch]
    assert [len(batch) for batch in found] == [BATCH] * 8
    assert len(set(seen)) == len(seen) == 256
    assert set(seen) < set(USABLE)
    assert second != found
    # Any epoch can be made again; two workers see the batches of one, in halves.
    assert read_epoch(whole, 1) == second
    parts = [read_epoch(whole, 1, rank=rank, world_size=2) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in second]
    assert all(abs(len(a) - len(b)) <= 2 for a, b in zip(*parts, strict=True))


@pytest.mark.ray
@pytest.mark.slow
def test_windows_mix_part_of_the_rows_at_a_time(plan):
    parts = plan(shuffle_rows=64)
    batches = read_epoch(parts, 0)
    seen = [n for batch in batches for n in batch]
    assert len(set(seen)) == len(seen) == 256
    # The first window has at most 64 rows, so ten files at the most; of all 38, 32 rows would meet about 22.
    assert len({n // 8 for n in batches[0]}) <= 10
    shares = [read_epoch(parts, 0, rank=rank, world_size=3) for rank in range(3)]
    joined = [sorted(n for part in each for n in part) for each in zip(*shares, strict=True)]
    assert joined == [sorted(batch) for batch in batches]


@pytest.mark.ray
@pytest.mark.slow
def test_validation_has_every_image_once(plan):
    whole = plan()
    for world_size in (1, 3):
        feeds = [open_feed(whole, rank=rank, world_size=world_size) for rank in range(world_size)]
        for _ in range(2):  # the second time from memory
            seen = [n for feed in feeds for batch in feed.val_batches() for n in numbers(batch)]
            assert sorted(seen) == list(range(NUM_VAL))


@pytest.mark.ray
@pytest.mark.long
def test_balanced_sampling_draws_both_classes_alike(plan):
    balanced = plan(balance=("hat",))
    assert sum(balanced.inputs.surveys["train"].cells) == len(USABLE)
    seen = [n for batch in read_epoch(balanced, 0) for n in batch]
    assert len(seen) == 256
    assert np.mean([n % 10 == 0 for n in seen]) == pytest.approx(0.5, abs=0.02)
    halves = [read_epoch(balanced, 0, rank=rank, world_size=2) for rank in range(2)]
    assert sorted(n for half in halves for batch in half for n in batch) == sorted(seen)


@pytest.mark.ray
@pytest.mark.slow
def test_augmentation_follows_from_seed_epoch_and_place(plan):
    shaken = plan(Augmentation(color=0.3, crop=0, blur=0))
    feed = open_feed(shaken)
    first, second = list(feed.train_batches(0)), list(feed.train_batches(1))
    feed.close()
    again = open_feed(shaken)
    torch.testing.assert_close(next(again.train_batches(1)).inputs, second[0].inputs)
    again.close()
    halves = [open_feed(shaken, rank=rank, world_size=2) for rank in range(2)]
    views = torch.cat([next(half.train_batches(0)).inputs for half in halves])
    for half in halves:
        half.close()
    assert sorted(view.flatten().tolist() for view in views) == sorted(
        view.flatten().tolist() for view in first[0].inputs
    )


def table(*positions):
    return pa.table({POSITION: pa.array(positions, pa.int64())})


def cut(tables, **kwargs):
    return [part[POSITION].to_pylist() for part in cut_batches(iter(tables), **kwargs)]


@pytest.mark.ray
@pytest.mark.slow
def test_views_that_are_completed_after_the_feed_are_the_same(plan):
    """What a worker with a GPU does; on a CPU the halves are equal to the bit."""
    shaken = plan(Augmentation(blur=0.5, fog=0.5))
    whole = open_feed(shaken)
    views = [batch.inputs for batch in whole.train_batches(1)]
    whole.close()
    halves = open_feed(shaken, crops_only=True)
    crops = list(halves.train_batches(1))
    halves.close()
    finished = [halves.finish_views(batch) for batch in crops]
    assert all(len(batch.seeds) == BATCH for batch in crops)
    assert all(batch.seeds is None for batch in finished)
    assert not any(torch.equal(batch.inputs, view) for batch, view in zip(crops, views, strict=True))
    assert all(torch.equal(batch.inputs, view) for batch, view in zip(finished, views, strict=True))
    assert all(
        torch.equal(before.targets["hat"].value, after.targets["hat"].value)
        for before, after in zip(crops, finished, strict=True)
    )


def test_batches_are_cut_by_position():
    tables = [table(0, 2), table(3, 5, 9), table(16)]
    assert cut(tables, batch_size=4, num_batches=5) == [[0, 2, 3], [5], [9], [], [16]]
    assert cut(tables, batch_size=4, num_batches=3) == [[0, 2, 3], [5], [9]]
    assert cut([table(0)], batch_size=4, num_batches=3) == [[0], [], []]
    assert cut([table(9)], batch_size=4, num_batches=3) == [[], [], [9]]
    assert cut([], batch_size=4, num_batches=3) == []


def test_a_worker_without_images_in_a_step_gets_some_that_teach_nothing():
    targets = {"hat": Targets(value=torch.ones(2), known=torch.ones(2, dtype=torch.bool), weight=torch.ones(2))}
    batch = Batch(inputs=torch.zeros(2, 3, 4, 4, dtype=torch.uint8), targets=targets)
    first, filled = fill_gaps(iter([batch, None]), "worker 0")
    assert first is batch
    assert filled.inputs is batch.inputs
    assert not filled.targets["hat"].known.any()
    with pytest.raises(RunError, match=r"worker 0 has no image in batch 0; raise --feed\.batch-size"):
        list(fill_gaps(iter([None, batch]), "worker 0"))
