import pyarrow as pa
import pytest
import torch

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.label_columns import source_schema
from faceattr.errors import RunError
from faceattr.training.targets import Batch, read_targets
from tests.training.toy import make_batch

ATTRIBUTES = AttributeSet(
    attributes=(
        Attribute(name="hat"),
        Attribute(name="race", kind="multiclass", classes=("a", "b", "c")),
        Attribute(name="age", kind="age", classes=()),
        Attribute(name="person", kind="identity", classes=("x", "y")),
    )
)
HEAD = {"image_id": "i", "uri": "u"}
ROWS = [
    HEAD | {"hat": 1, "hat_score": 0.75, "hat_mass": 0.5, "race": 2, "age_low": 25.0, "age_high": 26.0, "person": 1},
    HEAD | {"hat": None, "hat_score": 0.5, "hat_mass": 0.25, "race_mask": 0b101, "age_low": 20.0, "age_high": 30.0},
    HEAD | {"hat": 0, "race_score": [0.5, 0.25, 0.25], "race_mass": 0.5, "hat_mass": 0.1},
]


def table(rows=ROWS, scored=("hat", "race")):
    return pa.Table.from_pylist(rows, schema=source_schema(ATTRIBUTES, scored))


def test_columns_become_tensors():
    targets = read_targets(table(), ATTRIBUTES)
    hat, race, age, person = targets.values()
    assert hat.value.tolist() == [1.0, 0.0, 0.0]
    assert hat.known.tolist() == [True, False, True]
    torch.testing.assert_close(hat.score, torch.tensor([0.75, 0.5, torch.nan]), equal_nan=True)
    # The mass of the third row belongs to a score that is not there.
    assert hat.weight.tolist() == [0.5, 0.25, 1.0]
    assert (race.value.tolist(), race.known.tolist()) == ([2, 0, 0], [True, False, False])
    assert race.coarse.tolist() == [[False] * 3, [True, False, True], [False] * 3]
    assert race.score.isnan().all(1).tolist() == [True, True, False]
    assert race.score[2].tolist() == [0.5, 0.25, 0.25]
    assert race.weight.tolist() == [1.0, 1.0, 0.5]
    assert age.value.tolist() == [[25.0, 26.0], [20.0, 30.0], [0.0, 0.0]]
    assert age.known.tolist() == [True, True, False]
    assert (person.value.tolist(), person.known.tolist()) == ([1, 0, 0], [True, False, False])
    assert person.coarse is None
    assert [each.value.dtype for each in targets.values()] == [torch.float32, torch.int64, torch.float32, torch.int64]


def test_a_score_whose_model_gives_no_mass_has_the_full_weight():
    rows = [HEAD | {"hat": 1, "hat_score": 0.75}, HEAD | {"hat": 0, "hat_score": 0.25, "hat_mass": 0.5}]
    hat = read_targets(table(rows), ATTRIBUTES)["hat"]
    assert hat.score.tolist() == [0.75, 0.25]
    assert hat.weight.tolist() == [1.0, 0.5]


def test_chunks_batches_and_slices_read_alike():
    whole = read_targets(table(), ATTRIBUTES)
    chunked = pa.concat_tables([table(ROWS[:1]), table(ROWS[1:])])
    sliced = table([ROWS[2], *ROWS]).slice(1)
    for other in (chunked, sliced, table().to_batches()[0]):
        for name, each in read_targets(other, ATTRIBUTES).items():
            torch.testing.assert_close(each.value, whole[name].value)
            torch.testing.assert_close(each.known, whole[name].known)
            torch.testing.assert_close(each.score, whole[name].score, equal_nan=True)


def test_an_empty_table_reads():
    assert len(read_targets(table([]), ATTRIBUTES)["race"]) == 0


@pytest.mark.parametrize(
    ("wrong", "column"),
    [
        ({"hat": 2}, "'hat'"),
        ({"race": 3}, "'race'"),
        ({"race": -1}, "'race'"),
        ({"race_mask": 8}, "'race_mask'"),
        ({"age_low": 116.0, "age_high": 119.0}, "'age'"),
        ({"person": 2}, "'person'"),
        ({"hat_score": 1.5}, "'hat_score'"),
        ({"race_score": [0.5, 0.5]}, "'race_score'"),
    ],
)
def test_labels_outside_their_range_are_refused(wrong, column):
    with pytest.raises(RunError, match=column):
        read_targets(table([HEAD | wrong]), ATTRIBUTES)


def test_a_missing_column_is_named():
    with pytest.raises(RunError, match="'age_high'"):
        read_targets(table().drop_columns(["age_high"]), ATTRIBUTES)


def test_batches_move_and_take_rows():
    batch = make_batch(6, 0)
    moved = batch.to(torch.device("cpu"))
    assert isinstance(moved, Batch)
    assert len(moved) == 6
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(batch.targets["age"].take(rows).value, batch.targets["age"].value[[3, 1]])
