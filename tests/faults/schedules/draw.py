"""Random schedules of faults: what happens to a run, and when. A seed gives the same schedule on every machine."""

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "kill driver",
    "terminate driver",
    "freeze driver, start another",
    "kill process",
    "freeze store",
    "kill store",
    "answers",
    "no conditions",
    "disk full",
]
# How often each is drawn: what needs another start of the driver costs more time.
_WEIGHTS: dict[Kind, int] = {
    "kill driver": 3,
    "terminate driver": 1,
    "freeze driver, start another": 1,
    "kill process": 4,
    "freeze store": 2,
    "kill store": 2,
    "answers": 5,
    "no conditions": 1,
    "disk full": 1,
}
# Of a bad network or store: kind of fault, and status and code of an error.
ANSWERS = (
    ("error", 500, "InternalError"),
    ("error", 503, "SlowDown"),
    ("error", 503, "ServiceUnavailable"),
    ("error", 400, "RequestTimeout"),
    ("error", 400, "ExpiredToken"),
    ("error", 403, "AccessDenied"),
    ("reset", 0, ""),
    ("cut", 0, ""),
    ("short", 0, ""),
    ("flip", 0, ""),
    ("lost_ack", 0, ""),
)
# Where a bit may flip: a listing has no checksum, so that nobody could notice a flipped name.
_CHECKED = (".jpg", "shard-", "run.json")
_PLACES = ("", "shard-", "_manifest", "_lease", "run.json", "plan/", "images/")


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """One thing that goes wrong.

    Attributes:
        kind: what.
        after: parts of the job that are done when it happens.
        target: pattern of a process, or path of a request, for the kinds that have one.
        method: HTTP method of an answer.
        answer: kind of fault, status, code.
        times: how many requests.
        seconds: how long a store is frozen or away.
    """

    kind: Kind
    after: int
    target: str = ""
    method: str = ""
    answer: tuple[str, int, str] = ("", 0, "")
    times: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        more = {
            "kill process": self.target,
            "freeze store": f"{self.seconds:.1f} s",
            "kill store": f"{self.seconds:.1f} s",
            "answers": f"{self.times} x {self.method} {self.target or 'anything'}: {' '.join(map(str, self.answer))}",
        }.get(self.kind, "")
        return f"after {self.after} parts: {self.kind}" + (f" ({more})" if more else "")


def draw_schedule(seed: int, *, num_parts: int, processes: tuple[str, ...]) -> list[Disturbance]:
    """One to four disturbances, in the order in which they are to happen.

    Args:
        seed: any number.
        num_parts: of the run; disturbances happen before the last is done.
        processes: patterns of command lines of what the job consists of.
    """
    rng = random.Random(seed)
    found = [_draw(rng, num_parts, processes) for _ in range(rng.randint(1, 4))]
    return sorted(found, key=lambda each: each.after)


def _draw(rng: random.Random, num_parts: int, processes: tuple[str, ...]) -> Disturbance:
    (kind,) = rng.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))
    after = rng.randrange(num_parts)
    if kind == "kill process":
        return Disturbance(kind=kind, after=after, target=rng.choice(processes))
    if kind in ("freeze store", "kill store"):
        return Disturbance(kind=kind, after=after, seconds=rng.uniform(1, 30 if kind == "freeze store" else 8))
    if kind != "answers":
        return Disturbance(kind=kind, after=after)
    answer = rng.choice(ANSWERS)
    # A body is only spoilt of a read; an acknowledgement is lost of a write.
    method = {"lost_ack": "PUT", "cut": "GET", "short": "GET", "flip": "GET"}.get(answer[0]) or rng.choice(
        ["GET", "PUT"]
    )
    place = rng.choice(_CHECKED if answer[0] == "flip" else _PLACES)
    return Disturbance(
        kind=kind, after=after, method=method, target=place, answer=answer, times=rng.choice([1, 1, 2, 3, 10, 40])
    )
