"""What a check found, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: what was checked.
        found: what was found, in one line.
        remedy: what to do about it; None if all is well.
    """

    subject: str
    found: str
    remedy: str | None = None


def describe_findings(findings: Sequence[Finding]) -> str:
    """Returns a line for each finding, and the number of problems."""
    lines = []
    for each in findings:
        verdict = "ok" if each.remedy is None else "problem"
        lines.append(f"{verdict:8} {each.subject:9} {each.found}" + (f". {each.remedy}" if each.remedy else ""))
    problems = sum(each.remedy is not None for each in findings)
    return "\n".join([*lines, f"{problems} problems" if problems != 1 else "1 problem"])
