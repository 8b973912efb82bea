import pytest

from faceattr.audit.judgements import ReviewerAnswer, append_judgements, decode_judgements, standing_judgements
from faceattr.audit.verdicts import settle
from faceattr.errors import RunError


def said(item, answer, reviewer="ann"):
    return ReviewerAnswer(item=item, answer=answer, reviewer=reviewer, time_s=1.5)


def test_answers_are_appended_and_the_last_one_counts(tmp_path):
    log = tmp_path / "judgements.jsonl"
    append_judgements(log, [said(0, 1), said(1, None)])
    append_judgements(log, [said(0, 0)])
    found = decode_judgements(log.read_bytes(), "log")
    assert found == [said(0, 1), said(1, None), said(0, 0)]
    assert standing_judgements(found) == {("ann", 0): said(0, 0), ("ann", 1): said(1, None)}


def test_a_line_that_was_cut_off_does_not_count_and_does_not_spoil_the_next(tmp_path):
    log = tmp_path / "judgements.jsonl"
    append_judgements(log, [said(0, 1), said(1, 1)])
    log.write_bytes(log.read_bytes()[:-9])
    assert decode_judgements(log.read_bytes(), "log") == [said(0, 1)]
    append_judgements(log, [said(1, 0)])
    assert decode_judgements(log.read_bytes(), "log") == [said(0, 1), said(1, 0)]


def test_a_damaged_line_is_named():
    with pytest.raises(RunError, match=r"log, line 1,.*damaged"):
        decode_judgements(b'{"item": }\n', "log")
    with pytest.raises(RunError, match=r"log, line 2,.*lacks 'answer'"):
        decode_judgements(
            b'{"item": 1, "answer": 0, "reviewer": "a", "time_s": 1}\n{"item": 1, "reviewer": "a", "time_s": 1}\n',
            "log",
        )


def test_most_reviewers_decide():
    assert settle(
        [
            *(said(0, 1, "ann"), said(0, 1, "bob"), said(0, 0, "eve")),
            *(said(1, 1, "ann"), said(1, 0, "bob")),
            *(said(2, None, "ann"), said(2, None, "bob"), said(2, 1, "eve")),
            said(3, 0, "ann"),
        ]
    ) == {0: 1, 1: None, 2: None, 3: 0}
