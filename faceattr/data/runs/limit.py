"""What limits a run over images: start-up, reading, decoding or the model; by what it waited for, moment by moment.

    {"stages": {"reading": 0.06, "decoding": 0.71, "model": 0.2}}     in a session's file

The shares are of the time from the session's first rows to its last, and say what the run waited for: its model, while
an actor has work; for the images of an idle actor, decoding or reading. What is left to 1 passed between the stages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Limit = Literal["start-up", "reading", "decoding", "the model"]
_HELPS: dict[Limit, str] = {
    "start-up": "larger runs hardly notice it",
    "reading": "a faster store, packed images or more cores help",
    "decoding": "more cores help",
    "the model": "more or faster actors help",
}


@dataclass(frozen=True, kw_only=True)
class WaitedFor:
    """The seconds of a run's sessions, by what they waited for.

    Attributes:
        start_up_s: until the first rows.
        reading_s: an actor was idle, and its images were being listed or read.
        decoding_s: an actor was idle, and its images were being decoded and resized, or waited for that.
        model_s: the actors had work.
        other_s: none of these: images were on their way from stage to stage, or rows waited for the driver.
    """

    start_up_s: float
    reading_s: float
    decoding_s: float
    model_s: float
    other_s: float

    @property
    def shares(self) -> dict[Limit, float]:
        """What can limit the run -> its share of the time."""
        seconds: dict[Limit, float] = {
            "start-up": self.start_up_s,
            "reading": self.reading_s,
            "decoding": self.decoding_s,
            "the model": self.model_s,
        }
        total_s = sum(seconds.values()) + self.other_s
        return {limit: each_s / total_s for limit, each_s in seconds.items()}


def find_limit(waited: WaitedFor) -> Limit | None:
    """Returns what a run waited for longest; None if that is none of the stages."""
    shares = waited.shares
    longest = max(shares, key=lambda limit: shares[limit])
    return longest if shares[longest] > 1 - sum(shares.values()) else None


def describe_limit(waited: WaitedFor) -> str:
    """Returns one sentence: what limits the run, the figures that say so, and what makes it faster."""
    limit, shares = find_limit(waited), waited.shares
    others = ", ".join(f"{each} {share:.0%}" for each, share in shares.items() if each != limit)
    if limit is None:
        return f"limited by no stage, it waited for {others} of the time; it is short, or its driver cannot keep pace"
    return f"limited by {limit}, for which it waited {shares[limit]:.0%} of the time ({others}); {_HELPS[limit]}"


def read_waited_for(sessions: Sequence[Mapping[str, Any]]) -> WaitedFor | None:
    """Adds up the sessions of a run; None if none was measured, as by earlier versions of faceattr.

    Args:
        sessions: the content of the files `sessions/*.json`.
    """
    start_up_s = steady_s = 0.0
    seconds = dict.fromkeys(("reading", "decoding", "model"), 0.0)
    for session in sessions:
        if "stages" not in session or not session["samples"]:
            continue
        first_s, last_s = session["samples"][0][0], session["samples"][-1][0]
        start_up_s += first_s
        steady_s += last_s - first_s
        for stage in seconds:
            seconds[stage] += (last_s - first_s) * session["stages"][stage]
    if not start_up_s + steady_s:
        return None
    return WaitedFor(
        start_up_s=start_up_s,
        reading_s=seconds["reading"],
        decoding_s=seconds["decoding"],
        model_s=seconds["model"],
        other_s=max(0.0, steady_s - sum(seconds.values())),
    )
