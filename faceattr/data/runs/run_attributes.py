"""The attributes of a run over images: of a label run's questions, or of a prediction run's model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from faceattr.attributes import DEFAULT_THRESHOLD, Attribute, AttributeSet, DerivedAttribute
from faceattr.data.runs.version import Manifest, RunRecord, RunVersion


def describe_attributes(attributes: AttributeSet) -> dict[str, Any]:
    """Returns JSON for a run's fingerprint; the keys are those that a question set uses."""
    return {
        "attributes": {each.name: {"kind": each.kind, "classes": list(each.classes)} for each in attributes.attributes},
        "derived": {rule.name: rule.rule for rule in attributes.derived},
    }


def read_run_attributes(record: RunRecord) -> dict[str, Attribute]:
    """Returns name to attribute, with derived attributes as plain binary ones at the end."""
    scored = scored_attributes(record)
    return {**scored, **{name: Attribute(name=name) for name in _described(record)["derived"]}}


def scored_attributes(record: RunRecord) -> dict[str, Attribute]:
    """Returns the attributes with scores: all but the derived ones."""
    return {
        name: Attribute(name=name, kind=value["kind"], classes=tuple(value["classes"]))
        for name, value in _described(record)["attributes"].items()
    }


def read_attribute_set(record: RunRecord) -> AttributeSet:
    """Returns the attributes with scores, and the rules of the derived ones."""
    rules = tuple(DerivedAttribute(name=name, rule=rule) for name, rule in _described(record)["derived"].items())
    return AttributeSet(attributes=tuple(scored_attributes(record).values()), derived=rules)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a run turned scores into labels, if it differs from the default: yes from 0.5 on, and always a label.

    Attributes:
        threshold: a binary score of at least this value was labelled 1.
        abstain: as in `faceattr.vqa.questions.AskedAttribute`; None if every score was labelled.
    """

    threshold: float = DEFAULT_THRESHOLD
    abstain: tuple[float, float] | None = None

    def __str__(self) -> str:
        band = "" if self.abstain is None else f", null between {self.abstain[0]:g} and {self.abstain[1]:g}"
        return f"yes from {self.threshold:g}{band}"


def read_decisions(record: RunRecord, version: Manifest | RunVersion | None = None) -> dict[str, Decision]:
    """Returns attribute to decision, as far as they differ from the default.

    Args:
        record: a label run, whose questions have thresholds, or a prediction run, whose model has them.
        version: a version, published or not, which may be made with other thresholds.
    """
    if record.kind == "label":
        found = {name: _decision(value) for name, value in _described(record)["attributes"].items()}
    else:
        cuts = record.notes.get("thresholds", {})
        found = {name: Decision(threshold=cuts[name]) for name in scored_attributes(record) if name in cuts}
    if version is not None:
        found |= {name: _decision(value) for name, value in version.decisions.items()}
    return {name: each for name, each in found.items() if each != Decision()}


def _decision(asked: Mapping[str, Any]) -> Decision:
    band = asked.get("abstain")
    return Decision(threshold=asked.get("threshold", DEFAULT_THRESHOLD), abstain=tuple(band) if band else None)


def _described(record: RunRecord) -> dict[str, Any]:
    key = "questions" if record.kind == "label" else "attributes"
    return dict(record.fingerprint[key])
