"""`make bench`: how ratios are told, kept, compared with another commit's, and shown in the documents."""

import pytest

from tests.benchmarks.history import DOCUMENTS, Record, append_record, read_history, render, show_newest
from tests.benchmarks.ratios import read_ratios, tell_ratio
from tests.benchmarks.run import BENCHMARKS, Benchmark, run_benchmark, tell_change

RECORD = Record("2026-11-30", "abc1234", "a processor, 2 cores", {"torch": "2.11"}, {"vqa.a": 3.456, "b.c": 0.5}, {})


def test_a_ratio_that_is_told_can_be_read(capsys):
    tell_ratio("vqa.3_questions.batched", 3.98765)
    assert read_ratios(f"before\n{capsys.readouterr().out}after\n") == {"vqa.3_questions.batched": 3.988}
    for name, value in (("Two words", 1.0), ("vqa.x", float("nan")), ("vqa.x", float("inf"))):
        with pytest.raises(ValueError, match="is not the line of a ratio"):
            tell_ratio(name, value)


def test_the_history_is_read_as_it_was_written(tmp_path):
    append_record(RECORD, tmp_path / "history.jsonl")
    append_record(RECORD, tmp_path / "history.jsonl")
    assert read_history(tmp_path / "history.jsonl") == [RECORD, RECORD]


def test_a_document_shows_the_newest_run():
    text = "a <!-- ratio vqa.a -->9.99x b\n<!-- newest run -->\nold\n<!-- end of newest run -->\n"
    table = (
        "2026-11-30, commit abc1234, a processor, 2 cores; torch 2.11.\n\n"
        "| ratio | figure |\n| --- | --- |\n| `b.c` | 0.5x |\n| `vqa.a` | 3.46x |\n"
    )
    assert render(RECORD) == table
    shown = f"a <!-- ratio vqa.a -->3.46x b\n<!-- newest run -->\n{table}<!-- end of newest run -->\n"
    assert show_newest(text, RECORD) == shown
    with pytest.raises(KeyError):
        show_newest("<!-- ratio vqa.gone -->1x", RECORD)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_figures_of_the_documents_are_those_of_the_history(document):
    text = document.read_text(encoding="utf-8")
    assert "<!-- ratio " in text or "<!-- newest run -->" in text
    assert show_newest(text, read_history()[-1]) == text


def test_every_benchmark_has_figures_in_the_newest_run():
    assert {name.partition(".")[0] for name in read_history()[-1].ratios} == set(BENCHMARKS)


@pytest.mark.parametrize(("now", "said"), [(0.89, "LOST"), (0.91, "")])
def test_a_tenth_less_is_a_loss(now, said, capsys):
    ours, theirs = [{"a.b": now}, {"a.b": now}], [{"a.b": 1.0}, {"a.b": 1.0, "a.new": 2.0}]
    assert tell_change("a", ours, theirs, "HEAD~1") == (not said)
    line = capsys.readouterr().out
    assert ("LOST" in line) == bool(said)
    assert "a.new" not in line


def test_what_did_not_run_cannot_be_compared(capsys):
    assert not tell_change("a", [{"a.b": 1.0}, {}], [{"a.b": 1.0}], "HEAD~1")
    assert "a: cannot be compared with HEAD~1" in capsys.readouterr().out


SCRIPT = "import sys, time\nprint('ratio a.b 2', flush=True)\n"


@pytest.mark.parametrize(
    ("end", "found", "said"),
    [
        ("", {"a.b": 2.0}, "ratio a.b 2"),
        ("sys.exit(3)", {}, "failed with code 3"),
        ("time.sleep(60)", {}, "ended: it took over 0.02 minutes"),
    ],
)
def test_a_benchmark_that_fails_or_hangs_has_no_figure(end, found, said, tmp_path, capsys):
    folder = tmp_path / "tests" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "small.py").write_text(SCRIPT + end)
    assert run_benchmark("a", Benchmark(("small.py",), 0.02), tmp_path) == found
    assert said in capsys.readouterr().out
