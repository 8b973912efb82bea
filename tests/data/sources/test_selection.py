"""A choice of images by labels: every positive, so many negatives, the same ones whatever the order."""

import pyarrow as pa
import pytest

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import source_schema
from faceattr.data.packed.selection import select_labels
from faceattr.data.sources.source import SourceLabels
from faceattr.errors import ConfigError

ATTRIBUTES = AttributeSet(
    attributes=(
        Attribute(name="hat"),
        Attribute(name="glasses"),
        Attribute(name="race", kind="multiclass", classes=("a", "b")),
    )
)
# Rows 0 to 2 have a yes; 3 to 12 have a no for both; 13 is unknown for one.
LABELS = [(1, 0), (1, 1), (None, 1), *[(0, 0)] * 10, (0, None)]


def source(order=range(14)):
    given = [{"image_id": f"{n}.jpg", "uri": "", "hat": LABELS[n][0], "glasses": LABELS[n][1]} for n in order]
    schema = source_schema(ATTRIBUTES)
    tables = [pa.Table.from_pylist(given[:5], schema), pa.Table.from_pylist(given[5:], schema)]
    return SourceLabels(kind="t", where="", image_root="", attributes=ATTRIBUTES, read=lambda rejects: iter(tables))


def chosen(seed=0, negatives=4, order=range(14)):
    found, counts = select_labels(source(order), any_of=["hat", "glasses"], negatives=negatives, seed=seed)
    table, _ = found.read_all()
    return {int(name.removesuffix(".jpg")) for name in table["image_id"].to_pylist()}, counts


def test_positives_and_drawn_negatives():
    rows, counts = chosen()
    assert {0, 1, 2} <= rows
    assert len(rows & set(range(3, 13))) == 4
    assert 13 not in rows
    assert (counts.positives, counts.negatives, counts.left_out) == (3, 4, 7)
    assert chosen(order=reversed(range(14)))[0] == rows
    assert any(chosen(seed=seed)[0] != rows for seed in range(1, 5))
    assert chosen(negatives=0)[0] == {0, 1, 2}
    assert chosen(negatives=10)[0] == set(range(13))


def test_more_seeds_draw_every_negative_now_and_then():
    drawn = [chosen(seed=seed)[0] for seed in range(60)]
    assert all(any(number in rows for rows in drawn) for number in range(3, 13))


def test_refusals():
    with pytest.raises(ConfigError, match=r"'hats' is not a binary attribute here; did you mean 'hat'"):
        select_labels(source(), any_of=["hats"], negatives=0, seed=0)
    with pytest.raises(ConfigError, match="'race' is not a binary attribute"):
        select_labels(source(), any_of=["race"], negatives=0, seed=0)
    with pytest.raises(ConfigError, match="only 10 images have a no for all of hat, glasses"):
        chosen(negatives=11)
