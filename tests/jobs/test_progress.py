"""What a user sees while a run is going, and when it is stopped for bad input."""

import io

import pyarrow as pa
import pytest

from faceattr.errors import RunError
from faceattr.jobs.cluster.progress import ErrorBudget, Progress, format_duration


def rows(statuses, hats=None, first=0):
    """Rows whose URIs and errors are numbered by their place in the table."""
    count = range(len(statuses))
    return pa.table(
        {
            "row": pa.array(range(first, first + len(statuses)), pa.int64()),
            "uri": [f"s3://b/{number}.jpg" for number in count],
            "status": pa.array(statuses, pa.string()),
            "error": [None if statuses[number] == "ok" else f"detail {number}" for number in count],
            "hat": pa.array(hats or [None] * len(statuses), pa.int8()),
        }
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0, "0s"),
        (0.4, "0s"),
        (12, "12s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (187, "3m 07s"),
        (3599.7, "1h 00m"),
        (3900, "1h 05m"),
        (360_000, "100h 00m"),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_the_line_before_anything_has_come():
    assert Progress(2_000, 500).line() == "500/2,000 (25.0%) · ? images/s · ETA ? · rejected 0"


def test_the_figures_are_the_line_as_numbers(caplog):
    progress = Progress(2_000, 500, ["hat"], stream=io.StringIO())
    progress.add(rows(["ok", "missing", "ok", "ok"], [1, None, 0, 1]))
    with caplog.at_level("INFO", logger="faceattr"):
        progress.show()
    assert caplog.records[-1].fields == {
        "event": "progress",
        "done": 504,
        "total": 2_000,
        "images_per_s": 0.0,
        "eta_s": None,
        "rejected": 1,
        "positive": {"hat": 0.6667},
    }


def test_the_line_counts_rows_rejects_and_positives():
    progress = Progress(2_000, 500, ["hat"])
    progress.add(rows(["ok", "missing", "ok", "truncated", "ok"], [1, None, 0, None, None]))
    progress.add(rows(["missing", "ok"], [None, 1]))
    assert progress.num_rows == 7
    assert progress.reasons == {"missing": 2, "truncated": 1}
    done, rate, eta, rejected, hat = progress.line().split(" · ")
    assert done == "507/2,000 (25.4%)"  # 25.35
    assert rate.endswith(" images/s")
    assert float(rate.split()[0].replace(",", "")) > 0
    assert eta.startswith("ETA ")
    assert eta != "ETA ?"
    assert rejected == "rejected 3"
    assert hat == "hat 66.7%"  # 2 of the 3 known ones


def test_an_attribute_without_a_known_label_has_no_rate():
    progress = Progress(10, 0, ["hat"])
    progress.add(rows(["missing", "ok"]))
    assert "hat" not in progress.line()


def test_rows_that_come_twice_do_not_make_the_time_left_negative():
    progress = Progress(2, 0)
    progress.add(rows(["ok"] * 2))
    progress.add(rows(["ok"]))
    assert "ETA 0s" in progress.line()


def test_a_terminal_has_one_line_that_rewrites_itself():
    terminal = Terminal()
    progress = Progress(4, 0, stream=terminal)
    progress.show()
    progress.add(rows(["ok"] * 4))
    progress.close()
    assert terminal.getvalue().startswith("\r\x1b[2K0/4 (0.0%)")
    assert terminal.getvalue().rpartition("\r\x1b[2K")[2].startswith("4/4 (100.0%)")
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\n")


def test_a_file_gets_log_lines_and_no_control_characters(caplog):
    stream = io.StringIO()
    progress = Progress(4, 0, stream=stream)
    progress.add(rows(["ok"] * 4))
    with caplog.at_level("INFO", logger="faceattr.jobs.cluster.progress"):
        progress.close()
    assert stream.getvalue() == ""
    (record,) = caplog.records
    assert record.getMessage().startswith("progress 4/4 (100.0%) · ")


def test_the_last_line_of_a_log_comes_once_and_has_a_rate(caplog):
    progress = Progress(4, 0, stream=io.StringIO())
    with caplog.at_level("INFO", logger="faceattr.jobs.cluster.progress"):
        progress.add(rows(["ok"] * 4))
        progress.close()
    (record,) = caplog.records
    assert record.fields["images_per_s"] > 0
    assert "ETA 0s" in record.getMessage()

    progress = Progress(4, 0, stream=io.StringIO())
    caplog.clear()
    with caplog.at_level("INFO", logger="faceattr.jobs.cluster.progress"):
        progress.add(rows(["ok"] * 4))
        progress.show()  # as when ten seconds are over
        progress.close()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("num_bad", "stops"), [(0, False), (49, False), (50, False), (51, True)])
def test_the_share_itself_is_allowed(num_bad, stops):
    budget = ErrorBudget(0.05, 1_000)
    table = rows(["missing"] * num_bad + ["ok"] * (1_000 - num_bad))
    if stops:
        with pytest.raises(RunError, match=r"\(5.1%\) cannot be used, more than --max-error-share 0.05"):
            budget.add(table)
    else:
        budget.add(table)
        budget.judge()


@pytest.mark.parametrize("share", [0.07, 0.29, 0.57, 0.58])
def test_a_share_that_is_met_to_the_row_is_allowed(share):
    budget = ErrorBudget(share, 100)
    budget.add(rows(["empty"] * round(100 * share)))
    with pytest.raises(RunError):
        budget.add(rows(["empty"], first=99))


@pytest.mark.parametrize(("max_share", "stops"), [(0.0, True), (1.0, False)])
def test_the_extreme_shares(max_share, stops):
    budget = ErrorBudget(max_share, 100)
    budget.add(rows(["ok"] * 99))
    if stops:
        with pytest.raises(RunError, match="1 of 100 images"):
            budget.add(rows(["empty"], first=99))
    else:
        budget.add(rows(["empty"], first=99))


def test_bad_images_that_come_together_count_against_the_whole_run():
    """1,060 of 22,100 are 4.8 %; after 11,060 rows they were 9.6 %."""
    budget = ErrorBudget(0.05, 22_100)
    budget.add(rows(["ok"] * 10_000))
    budget.add(rows(["empty"] * 1_060, first=10_000))
    budget.add(rows(["ok"] * 11_040, first=11_060))
    budget.judge()


@pytest.mark.parametrize("first", [0, 10_000, 20_994])
def test_a_run_stops_at_the_row_after_which_it_cannot_come_back_wherever_that_is(first):
    budget = ErrorBudget(0.05, 22_100)
    budget.add(rows(["empty"] * 1_105, first=first))
    with pytest.raises(RunError, match=r"1,106 of 22,100 images \(5.0%\)"):
        budget.add(rows(["empty"], first=first + 1_105))


def test_a_retry_of_bad_rows_alone_is_judged_by_the_whole_run():
    budget = ErrorBudget(0.05, 40_000)
    budget.add(rows(["missing"] * 1_800, first=3))
    budget.judge()


def test_rows_that_earlier_sessions_rejected_count_and_are_looked_up_only_when_it_matters():
    asked = []

    def count_earlier():
        asked.append(1)
        return 4

    budget = ErrorBudget(0.05, 100, count_earlier)
    budget.add(rows(["ok"] * 50))
    assert asked == []
    budget.add(rows(["empty"], first=50))
    with pytest.raises(RunError, match=r"6 of 100 images \(6.0%\) cannot be used, 4 of them found by earlier sessions"):
        budget.add(rows(["empty"], first=51))
    assert asked == [1]


def test_a_session_that_inherits_too_many_rejected_rows_is_refused_before_it_reads_an_image():
    with pytest.raises(RunError, match=r"6 of 100 images .* 6 of them found by earlier sessions(.|\n)*--rejects"):
        ErrorBudget(0.05, 100, lambda: 6).judge()
    ErrorBudget(0.05, 100, lambda: 5).judge()


def test_a_block_that_is_delivered_twice_counts_once():
    budget = ErrorBudget(0.5, 8)
    for _ in range(3):
        budget.add(rows(["missing"] * 4))
    with pytest.raises(RunError, match="5 of 8 images"):
        budget.add(rows(["missing", "missing"], first=3))


def test_the_three_commonest_reasons_are_told_with_examples():
    statuses = ["ok", "empty", *["missing"] * 5, *["truncated"] * 3, *["corrupt"] * 2]
    budget = ErrorBudget(0.1, len(statuses))
    budget.observe(rows(statuses))
    with pytest.raises(RunError) as error:
        budget.judge()
    assert str(error.value) == (
        "11 of 12 images (91.7%) cannot be used, more than --max-error-share 0.1. The commonest reasons:\n"
        "  missing: 5 images, such as\n"
        "    s3://b/2.jpg (detail 2)\n"
        "    s3://b/3.jpg (detail 3)\n"
        "    s3://b/4.jpg (detail 4)\n"
        "  truncated: 3 images, such as\n"
        "    s3://b/7.jpg (detail 7)\n"
        "    s3://b/8.jpg (detail 8)\n"
        "    s3://b/9.jpg (detail 9)\n"
        "  corrupt: 2 images, such as\n"
        "    s3://b/10.jpg (detail 10)\n"
        "    s3://b/11.jpg (detail 11)\n"
        "Nothing is lost: raise --max-error-share and run the same command again to process the rest; then "
        "--retry-failed retries the images that were corrected. Or start a new run in another --output."
    )
