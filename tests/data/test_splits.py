"""Splits: properties that hold for any data (hypothesis), and each rule by hand."""

import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceattr.data.packed.splits import SPLITS, SplitRatios, count_moved, plan_splits
from faceattr.errors import ConfigError

SCHEMA = pa.schema([(name, pa.string()) for name in ("image_id", "sha256", "group", "split")])
few = st.integers(0, 5).map(str)
row = st.tuples(st.none() | few, st.none() | few, st.none() | st.sampled_from(SPLITS))


def table(rows):
    """Rows of (sha256, group, split), or of (image_id, sha256, group, split)."""
    named = [each if len(each) == 4 else (f"{i}.jpg", *each) for i, each in enumerate(rows)]
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, each, strict=True)) for each in named], schema=SCHEMA)


def assign(rows, **options):
    data = table(rows)
    return plan_splits(lambda: [data], **options).assign(data).to_pylist()


@settings(max_examples=150, deadline=None)
@given(st.lists(row, max_size=25), st.randoms(use_true_random=False), st.integers(0, 3))
def test_properties(rows, rng, seed):
    named = [(f"{i}.jpg", *each) for i, each in enumerate(rows)]
    splits = dict(zip([each[0] for each in named], assign(named, seed=seed), strict=True))

    # Independent of row order, and of how rows are cut into tables.
    shuffled = named.copy()
    rng.shuffle(shuffled)
    tables = [table([each]) for each in shuffled]
    plan = pickle.loads(pickle.dumps(plan_splits(lambda: tables, seed=seed)))
    assert {each[0]: plan.assign(part)[0].as_py() for each, part in zip(shuffled, tables, strict=True)} == splits

    # Byte-identical images never straddle splits.
    contents = {}
    for image_id, sha256, _, _ in named:
        contents.setdefault(sha256, set()).add(splits[image_id])
    contents.pop(None, None)
    assert all(len(found) == 1 for found in contents.values())

    # Images of one group without official splits never straddle splits.
    groups = {}
    for image_id, _, group, official in named:
        if official is None:
            groups.setdefault(group, set()).add(splits[image_id])
    groups.pop(None, None)
    assert all(len(found) == 1 for found in groups.values())

    # An official split is left for a more held-out one only.
    for image_id, sha256, _, official in named:
        if official is not None:
            assert SPLITS.index(splits[image_id]) >= SPLITS.index(official)
            if sha256 is None or [other[1] for other in named].count(sha256) == 1:
                assert splits[image_id] == official


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(few, st.none() | few), min_size=1, max_size=20))
def test_connected_groups_share_a_split(pairs):
    """Against a second, naive way to find components: spread labels until nothing changes."""
    component = list(range(len(pairs)))
    changed = True
    while changed:
        changed = False
        for i, one in enumerate(pairs):
            for j, other in enumerate(pairs):
                joined = one[0] == other[0] or (one[1] is not None and one[1] == other[1])
                if joined and component[i] != component[j]:
                    component[i] = component[j] = min(component[i], component[j])
                    changed = True
    splits = assign([(sha256, group, None) for sha256, group in pairs], seed=7)
    by_component = {}
    for number, split in zip(component, splits, strict=True):
        by_component.setdefault(number, set()).add(split)
    assert all(len(found) == 1 for found in by_component.values())


def test_shares_follow_the_ratios_and_the_seed():
    rows = [(f"{number:x}", None, None) for number in range(20_000)]
    first, second = assign(rows, seed=0), assign(rows, seed=1)
    for splits in (first, second):
        # Four standard deviations: 226, 170, 170 rows.
        assert abs(splits.count("train") - 16_000) < 226
        assert abs(splits.count("val") - 2_000) < 170
        assert abs(splits.count("test") - 2_000) < 170
    # Independent seeds agree in 0.8^2 + 2 * 0.1^2 = 66 % of rows.
    assert abs(sum(a == b for a, b in zip(first, second, strict=True)) / 20_000 - 0.66) < 0.015
    assert assign(rows, seed=0) == first


def test_splits_are_fixed_for_ever():
    """Changing the hash would silently move test images of published runs into training."""
    rows = [(f"{number:02d}", None, None) for number in range(12)]
    assert assign(rows) == ["train"] * 7 + ["val", "train", "val", "test", "val"]
    assert assign([(None, f"person {number}", None) for number in range(6)]) == [
        "val",
        "test",
        *["train"] * 4,
    ]


def test_new_rows_leave_old_ones_where_they_are():
    rows = [(f"{number}.jpg", f"{number}", f"p{number // 3}", None) for number in range(300)]
    more = [(f"new{number}.jpg", f"n{number}", f"p{number}", None) for number in range(200)]
    assert assign([*more, *rows])[200:] == assign(rows)


def test_a_copy_joins_two_groups():
    rows = [(f"{number}", f"p{number % 40}", None) for number in range(400)]
    alone = assign(rows)
    one = next(i for i in range(40) if alone[i] == "train")
    other = next(i for i in range(40) if alone[i] == "test")
    joined = assign([*rows, ("copy", f"p{one}", None), ("copy", f"p{other}", None)])
    together = {joined[i] for i in range(400) if i % 40 in (one, other)} | set(joined[400:])
    assert len(together) == 1
    assert [joined[i] for i in range(400) if i % 40 not in (one, other)] == [
        alone[i] for i in range(400) if i % 40 not in (one, other)
    ]


def test_joined_groups_do_not_depend_on_the_order_of_rows():
    """Each pair of persons shares one picture; which one is met first must not decide."""
    rows = [(f"{n}{who}.jpg", f"shared {n}", f"{who}{n}", None) for n in range(200) for who in ("ann", "bob", "cem")]
    assert assign(rows[::-1])[::-1] == assign(rows)


def test_official_splits_are_kept_though_they_part_a_person():
    rows = [("a", "ann", "train"), ("b", "ann", "val"), ("c", "ann", "train")]
    assert assign(rows) == ["train", "val", "train"]


def test_leaks_between_official_splits_go_to_the_most_held_out():
    rows = [("a", None, "train"), ("a", None, "val"), ("b", None, "train"), ("a", None, "train"), ("b", None, "test")]
    data = table(rows)
    splits = plan_splits(lambda: [data]).assign(data)
    assert splits.to_pylist() == ["val", "val", "test", "val", "test"]
    assert count_moved(data, splits) == 3


def test_rows_without_a_split_follow_their_copies_and_their_group():
    rows = [("a", "ann", "val"), ("b", "ann", None), ("a", None, None), ("c", "bob", "train"), ("d", "bob", None)]
    assert assign(rows) == ["val", "val", "val", "train", "train"]


def test_an_unofficial_copy_carries_the_leak_over():
    """Ann's unofficial picture is a copy of Bob's official train picture; Ann has another one in test."""
    rows = [("a", "bob", "train"), ("a", "ann", None), ("b", "ann", "test")]
    assert assign(rows) == ["test", "test", "test"]


def test_official_splits_may_be_ignored_or_renamed():
    rows = [(f"{number}", None, "val" if number % 4 == 0 else "train") for number in range(2_000)]
    ignored = assign(rows, official={})
    assert ignored == assign([(sha256, None, None) for sha256, _, _ in rows])
    renamed = assign(rows, official={"train": None, "val": "test"}, ratios=SplitRatios(train=0.9, val=0.1, test=0.0))
    assert [split == "test" for split in renamed] == [split == "val" for _, _, split in rows]
    assert 100 < renamed.count("val") < 200


@pytest.mark.parametrize(
    ("official", "message"),
    [({"train": "train"}, "official split 'val': expected one of train"), ({"val": "vla"}, "should become 'vla'")],
)
def test_unknown_official_splits_are_refused(official, message):
    with pytest.raises(ConfigError, match=message):
        assign([("a", None, "val")], official=official)


@pytest.mark.parametrize("shares", [(0, 0, 0), (-1, 1, 1), (float("nan"), 1, 1), (float("inf"), 0, 0)])
def test_wrong_ratios_are_refused(shares):
    with pytest.raises(ConfigError, match="split ratios"):
        SplitRatios(train=shares[0], val=shares[1], test=shares[2])


@given(st.tuples(*[st.integers(0, 10)] * 3).filter(any), st.floats(0, 1, exclude_max=True))
def test_a_split_without_a_share_gets_nothing(shares, place):
    index = SplitRatios(train=shares[0], val=shares[1], test=shares[2]).split_at(place)
    assert shares[index] > 0


def test_images_that_cannot_be_read_are_drawn_alone():
    rows = [(f"{number}.jpg", None, None, None) for number in range(1_000)]
    assert 700 < assign(rows).count("train") < 900


def test_no_rows():
    assert assign([]) == []
