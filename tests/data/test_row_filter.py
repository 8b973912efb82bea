"""`--where`: rows by hand, unknown values, and texts that are refused in one sentence."""

import pyarrow as pa
import pytest

from faceattr.data.row_filter import RowFilter
from faceattr.errors import ConfigError

TABLE = pa.table(
    {
        "row": [0, 1, 2, 3, 4],
        "hat": pa.array([1, 0, None, 1, 0], pa.int8()),
        "hat_score": pa.array([0.9, 0.1, None, 0.5, 0.5], pa.float32()),
        "glasses": pa.array([0, 0, 1, 1, None], pa.int8()),
        "status": ["ok", "ok", "missing", "ok", "ok"],
        "race_score": pa.array([[0.2, 0.8], [0.5, 0.5], None, [0.25, 0.75], []], pa.list_(pa.float32())),
        "is_old": [True, False, None, False, True],
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0.3 < hat_score < 0.7", [3, 4]),
        ("hat_score >= 0.5", [0, 3, 4]),
        ("0.1 < hat_score", [0, 1, 3, 4]),  # the score is a float32 and a little more than .1, as Python says too
        ("hat == 1 and glasses == 0", [0]),
        ("hat and not glasses", [0]),
        ("not (hat or glasses)", [1]),
        ("hat != 1", [1, 4]),
        ("hat is None", [2]),
        ("hat is not None and glasses is None", [4]),
        # Kleene: unknown and false is false, unknown or true is true.
        ("hat == 1 or glasses == 1", [0, 2, 3]),
        ("not (hat == 1 and glasses == 0)", [1, 2, 3, 4]),
        ("status == 'missing'", [2]),
        ('status != "ok" or row < 1', [0, 2]),
        ("race_score > 0.7", [0, 3]),
        ("race_score is None", [2, 4]),
        ("hat == glasses", [1, 3]),
        ("is_old", [0, 4]),
        ("hat_score > -1 and row > 3", [4]),
        ("1 < 2 and row == 0", [0]),
    ],
)
def test_rows(text, rows):
    assert RowFilter(text).select(TABLE)["row"].to_pylist() == rows


def test_the_columns_that_are_read():
    assert RowFilter("hat and 0.3 < hat_score < 0.7 or hat is None").names == ("hat", "hat_score")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "it cannot be read"),
        ("hat ==", "it cannot be read"),
        ("1 < 2", "it names no column"),
        ("hat = 1", "it cannot be read"),
        ("__import__('os').system('true')", "expected a comparison"),
        ("hat_score + 1 > 1", "expected a column, a number or a text, found 'hat_score + 1'"),
        ("abs(hat_score) > 1", "expected a column, a number or a text, found 'abs(hat_score)'"),
        ("hat in (0, 1)", "found In"),
        ("hat == None", "`is` and None belong together"),
        ("hat is 1", "`is` and None belong together"),
        ("hat.real == 1", "expected a column, a number or a text, found 'hat.real'"),
        ("(lambda: hat)() == 1", "expected a column"),
        ("hat == 1 if hat else 0", "expected a comparison"),
        ("hat == 1j", "expected a column, a number or a text"),
        ("hat == b'x'", "expected a column, a number or a text"),
        ("(" * 5_000 + "hat" + ")" * 5_000, "it cannot be read"),
        ("hat == 1 " + "or hat == 1 " * 500, "it is longer than 2,000 characters"),
        ("not " * 400 + "hat", None),
    ],
)
def test_what_is_no_expression(text, found):
    if found is None:
        assert RowFilter(text).select(TABLE)["row"].to_pylist() == [0, 3]  # an even number of negations
        return
    with pytest.raises(ConfigError, match="--where") as caught:
        RowFilter(text)
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hat == 'yes'", "cannot compare hat (int8) with 'yes' (string)"),
        ("status > 3", "cannot compare status (string) with 3 (int64)"),
        ("status and hat", "status is string, not yes or no"),
        ("hat_score", "hat_score is float, not yes or no"),
    ],
)
def test_types_that_do_not_fit(text, found):
    with pytest.raises(ConfigError) as caught:
        RowFilter(text).select(TABLE)
    assert found in str(caught.value)
