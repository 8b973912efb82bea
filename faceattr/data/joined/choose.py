"""What several runs have in common: the attributes that all of them label, and what they were asked about them."""

from collections.abc import Sequence
from typing import Any

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute, AttributeSet, DerivedAttribute
from faceattr.data.joined.runs import ScoredRun
from faceattr.data.sources.options import near_hint
from faceattr.errors import ConfigError


def choose_shared(runs: Sequence[ScoredRun], names: Sequence[str] = ()) -> AttributeSet:
    """Returns the attributes that every run has, in the first run's order.

    Args:
        runs: the runs.
        names: attributes to take, derived ones too; empty for all that the runs share.

    Raises:
        ConfigError: a run lacks one of `names`, two runs define an attribute differently, or nothing is shared.
    """
    check_names(runs, names)
    first, *others = runs
    wanted = set(names or [*first.attributes, *first.rules])
    attributes = tuple(
        each
        for name, each in first.attributes.items()
        if name in wanted and all(name in run.attributes for run in others)
    )
    rules = tuple(
        DerivedAttribute(name=name, rule=rule)
        for name, rule in first.rules.items()
        if name in wanted and all(name in run.rules for run in others)
    )
    chosen = {each.name for each in attributes}
    lost = sorted(set(names) - chosen - {rule.name for rule in rules})
    if lost:
        raise ConfigError(f"--attributes: {lost[0]!r} is asked in one run and derived in another; leave it out")
    if not attributes:
        listed = "\n  ".join(f"{run.address}: {', '.join(run.attributes) or 'none'}" for run in runs)
        raise ConfigError(f"the runs share no attribute with class scores:\n  {listed}")
    for attribute in attributes:
        _check_equal(attribute, runs)
    for rule in rules:
        _check_rule(rule, runs)
    usable = tuple(rule for rule in rules if set(rule.inputs) <= chosen)
    for rule in rules:
        if rule not in usable and names:
            raise ConfigError(f"--attributes: {rule.name!r} needs {', '.join(rule.inputs)}; name them too")
    return AttributeSet(attributes=attributes, derived=usable)


def check_names(runs: Sequence[ScoredRun], names: Sequence[str]) -> None:
    """Raises ConfigError if a run has no such attribute, derived or with class scores."""
    for run in runs:
        known = [*run.attributes, *run.rules]
        for name in names:
            if name not in known:
                raise ConfigError(f"--attributes: {run.address} has no scored {name!r}; {near_hint(name, known)}")


def list_unshared(runs: Sequence[ScoredRun], chosen: AttributeSet) -> dict[str, list[str]]:
    """Returns the attributes that are not chosen -> addresses of the runs that have them."""
    known = {*chosen.names, *(rule.name for rule in chosen.derived)}
    found: dict[str, list[str]] = {}
    for run in runs:
        for name in (*run.attributes, *run.rules):
            if name not in known:
                found.setdefault(name, []).append(run.address)
    return found


def describe_questions(runs: Sequence[ScoredRun], chosen: AttributeSet) -> dict[str, Any]:
    """Returns the questions of all runs in the form of a label run's fingerprint; the threshold of each is 0.5.

    A prediction run has no questions; its attributes are described as they are.
    """
    return {
        "name": "combined",
        "attributes": {each.name: _describe_asked(runs, each) for each in chosen.attributes},
        "derived": {rule.name: rule.rule for rule in chosen.derived},
    }


def _describe_asked(runs: Sequence[ScoredRun], attribute: Attribute) -> dict[str, Any]:
    asked: dict[tuple[str, bool], None] = {}
    for run in runs:
        known = run.record.fingerprint.get("questions", {}).get("attributes", {}).get(attribute.name, {})
        asked |= dict.fromkeys(zip(known.get("questions", ()), known.get("inverted", ()), strict=True))
    return {
        "kind": attribute.kind,
        "classes": list(attribute.classes),
        "questions": [text for text, _ in asked],
        "inverted": [inverted for _, inverted in asked],
        "answers": list(attribute.classes),
        "threshold": DEFAULT_THRESHOLD,
        "abstain": None,
    }


def _check_equal(attribute: Attribute, runs: Sequence[ScoredRun]) -> None:
    for run in runs:
        theirs = run.attributes[attribute.name]
        if theirs != attribute:
            raise ConfigError(
                f"{attribute.name!r} has the classes {list(attribute.classes)} in {runs[0].address}, but "
                f"{list(theirs.classes)} in {run.address}; leave it out by naming the others with --attributes"
            )


def _check_rule(rule: DerivedAttribute, runs: Sequence[ScoredRun]) -> None:
    for run in runs:
        if run.rules[rule.name] != rule.rule:
            raise ConfigError(
                f"{rule.name!r} is derived by {rule.rule!r} in {runs[0].address}, but by {run.rules[rule.name]!r} in "
                f"{run.address}; leave it out by naming the others with --attributes"
            )
