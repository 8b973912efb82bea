"""What limits a run, by figures made by hand."""

from dataclasses import asdict

import pytest

from faceattr.data.runs.limit import WaitedFor, describe_limit, find_limit, read_waited_for


def waited(*, start_up=10.0, reading=0.0, decoding=0.0, model=0.0, other=0.0) -> WaitedFor:
    return WaitedFor(start_up_s=start_up, reading_s=reading, decoding_s=decoding, model_s=model, other_s=other)


@pytest.mark.parametrize(
    ("found", "limit"),
    [
        (waited(model=60, decoding=20, other=10), "the model"),
        (waited(model=20, decoding=60, reading=10), "decoding"),
        (waited(model=20, decoding=10, reading=60), "reading"),
        (waited(model=15, decoding=10, reading=12, other=53), None),
        (waited(model=20, decoding=10, reading=25, other=35), None),
        (waited(start_up=50, model=49), "start-up"),
        (waited(start_up=50, model=51), "the model"),
        (waited(start_up=8), "start-up"),
    ],
)
def test_what_was_waited_for_longest_is_the_limit(found, limit):
    assert find_limit(found) == limit


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            waited(start_up=20, model=5),
            "limited by start-up, for which it waited 80% of the time (reading 0%, decoding 0%, the model 20%); larger "
            "runs hardly notice it",
        ),
        (
            waited(reading=5, decoding=70, model=14, other=1),
            "limited by decoding, for which it waited 70% of the time (start-up 10%, reading 5%, the model 14%); more "
            "cores help",
        ),
        (
            waited(model=20, other=70),
            "limited by no stage, it waited for start-up 10%, reading 0%, decoding 0%, the model 20% of the time; it "
            "is short, or its driver cannot keep pace",
        ),
    ],
)
def test_the_sentence_names_it_with_its_figures(found, sentence):
    assert describe_limit(found) == sentence


def test_sessions_are_added_up_by_their_time():
    samples = {"first": [[5.0, 16], [35.0, 400]], "second": [[15.0, 16], [25.0, 200]]}
    first = {"samples": samples["first"], "stages": {"reading": 0.1, "decoding": 0.1, "model": 0.8}}
    second = {"samples": samples["second"], "stages": {"reading": 0.5, "decoding": 0.1, "model": 0.3}}
    found = read_waited_for([first, second, {"samples": [], "stages": first["stages"]}])
    # 30 and 10 seconds: 0.1 * 30 + 0.5 * 10 and so on; 0.1 of the 10 are left.
    assert asdict(found) == pytest.approx(
        {"start_up_s": 20, "reading_s": 8, "decoding_s": 4, "model_s": 27, "other_s": 1}
    )


def test_sessions_of_earlier_versions_say_nothing():
    assert read_waited_for([]) is None
    assert read_waited_for([{"samples": [[5.0, 16], [35.0, 400]]}]) is None
