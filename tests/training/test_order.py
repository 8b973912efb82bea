"""The order of an epoch: all rows once, the same batches for any number of workers, another order each epoch."""

import numpy as np
import pytest

from faceattr.training.row_order import cut_windows, deal_rows, order_rows

SIZES = np.array([7, 3, 5, 0, 8, 8, 1, 6, 8, 8, 4, 8])


def epoch_rows(sizes, *, seed=0, epoch=0, window_rows=20, weights=None):
    """(stretch, row) of every position of an epoch, and the stretch's index in its window."""
    rows = []
    for window in cut_windows(sizes, seed=seed, epoch=epoch, window_rows=window_rows):
        assert window.first_position == len(rows)
        inside = sizes[window.stretches]
        part = None if weights is None else np.concatenate([weights[stretch] for stretch in window.stretches])
        stretch, row = order_rows(inside, seed=seed, epoch=epoch, window=window.number, weights=part)
        rows += zip(window.stretches[stretch].tolist(), row.tolist(), strict=True)
    return rows


@pytest.mark.parametrize("window_rows", [1, 20, 1000])
def test_an_epoch_has_every_row_once(window_rows):
    rows = epoch_rows(SIZES, window_rows=window_rows)
    assert sorted(rows) == [(stretch, row) for stretch, size in enumerate(SIZES) for row in range(size)]


def test_the_order_follows_from_seed_and_epoch():
    first = epoch_rows(SIZES, seed=1, epoch=2)
    assert epoch_rows(SIZES, seed=1, epoch=2) == first
    assert epoch_rows(SIZES, seed=1, epoch=3) != first
    assert epoch_rows(SIZES, seed=2, epoch=2) != first


def test_windows_hold_as_many_rows_as_asked_and_stretches_drawn_from_all_files():
    sizes = np.full(100, 10)
    windows = cut_windows(sizes, seed=0, epoch=0, window_rows=250)
    assert [len(window.stretches) for window in windows] == [25] * 4
    for window in windows:
        # 25 of 100 in order would span 25 numbers.
        assert np.ptp(window.stretches) > 60
    assert [len(window.stretches) for window in cut_windows(sizes, seed=0, epoch=0, window_rows=7)] == [1] * 100


def same_windows(one, other):
    return [window.stretches.tolist() for window in one] == [window.stretches.tolist() for window in other]


def test_windows_of_small_images_are_those_of_their_rows_alone():
    sizes = np.full(2_000, 140)
    plain = cut_windows(sizes, seed=3, epoch=1, window_rows=8_192)
    assert same_windows(cut_windows(sizes, seed=3, epoch=1, window_rows=8_192, num_bytes=sizes * 30_000), plain)


def test_windows_of_large_images_hold_as_many_bytes_as_asked_and_still_every_stretch_once():
    sizes, num_bytes = np.full(100, 10), np.full(100, 1_000)
    num_bytes[::7] = 4_000
    windows = cut_windows(sizes, seed=0, epoch=0, window_rows=250, num_bytes=num_bytes, window_bytes=8_500)
    held = [int(num_bytes[window.stretches].sum()) for window in windows]
    assert max(held) <= 8_500
    assert min(held[:-1]) > 4_500
    assert sorted(np.concatenate([window.stretches for window in windows]).tolist()) == list(range(100))
    assert [window.first_position for window in windows] == np.cumsum([0, *(10 * len(w.stretches) for w in windows)])[
        :-1
    ].tolist()
    again = cut_windows(sizes, seed=0, epoch=0, window_rows=250, num_bytes=num_bytes, window_bytes=8_500)
    assert same_windows(windows, again)
    alone = cut_windows(sizes, seed=0, epoch=0, window_rows=250, num_bytes=num_bytes, window_bytes=10)
    assert [len(window.stretches) for window in alone] == [1] * 100


def test_a_stretch_is_spread_over_its_window():
    stretch, _ = order_rows(np.array([32] * 32), seed=0, epoch=0, window=0)
    for batch in stretch.reshape(-1, 64):
        assert np.bincount(batch, minlength=32).tolist() == [2] * 32


@pytest.mark.parametrize(("world_size", "num_stretches"), [(1, 32), (2, 32), (2, 8), (3, 32), (3, 60), (7, 5)])
def test_ranks_share_every_batch_about_evenly(world_size, num_stretches):
    sizes = np.full(num_stretches, 48)
    stretch, _ = order_rows(sizes, seed=0, epoch=0, window=0)
    dealt = np.stack(
        [
            deal_rows(stretch, num_stretches=num_stretches, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
    )
    assert (dealt.sum(0) == 1).all()
    for start in range(0, len(stretch) - 47, 48):
        shares = dealt[:, start : start + 48].sum(1)
        assert shares.max() - shares.min() <= 4


def test_whole_stretches_are_dealt_where_there_are_many():
    stretch, _ = order_rows(np.full(32, 8), seed=0, epoch=0, window=0)
    mine = deal_rows(stretch, num_stretches=32, rank=1, world_size=2)
    assert set(stretch[mine].tolist()) == set(range(1, 32, 2))
    few, _ = order_rows(np.full(31, 8), seed=0, epoch=0, window=0)
    mine = deal_rows(few, num_stretches=31, rank=1, world_size=2)
    assert len(set(few[mine].tolist())) > 20


def test_weighted_rows_come_as_often_as_their_weight_says():
    weights = [np.full(size, 0.5) for size in SIZES]
    weights[4][:] = 2.25
    counts = {}
    total = sum(map(len, weights))
    for epoch in range(40):
        rows = epoch_rows(SIZES, epoch=epoch, window_rows=1000, weights=weights)
        assert len(rows) == total
        for row in rows:
            counts[row] = counts.get(row, 0) + 1
    scale = total / sum(part.sum() for part in weights)
    for row in range(8):
        # Systematic sampling: 2.25 x scale in each epoch, to within one.
        assert counts[4, row] / 40 == pytest.approx(2.25 * scale, abs=0.35)
        assert counts[5, row] / 40 == pytest.approx(0.5 * scale, abs=0.35)
