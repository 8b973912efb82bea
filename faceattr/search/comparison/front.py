"""The Pareto front of main and auxiliary attributes."""

from collections.abc import Sequence

from faceattr.search.records import Judgement, TrialRecord


def find_front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns the finished trials to which no other is at least equal in both values and better in one."""
    judged = [record for record in records if record.status == "finished" and _has_both(record.judgement)]
    return [
        record
        for record in judged
        if not any(dominates(other.judgement, record.judgement) for other in judged)  # type: ignore[arg-type]
    ]


def dominates(one: Judgement, other: Judgement) -> bool:
    """Whether a judgement is at least equal to another in both values, and better in one."""
    assert one.auxiliary is not None
    assert other.auxiliary is not None
    pairs = (one.objective, other.objective), (one.auxiliary, other.auxiliary)
    return all(first >= second for first, second in pairs) and any(first > second for first, second in pairs)


def _has_both(judgement: Judgement | None) -> bool:
    return judgement is not None and judgement.auxiliary is not None
