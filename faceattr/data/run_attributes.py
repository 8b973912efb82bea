"""Which attributes a run over images has: those of a label run's questions, or those of a prediction run's model."""

from typing import Any

from faceattr.attributes import Attribute, AttributeSet
from faceattr.data.runs import RunRecord


def describe_attributes(attributes: AttributeSet) -> dict[str, Any]:
    """JSON for a run's fingerprint; the keys are those of a question set's."""
    return {
        "attributes": {each.name: {"kind": each.kind, "classes": list(each.classes)} for each in attributes.attributes},
        "derived": {rule.name: rule.rule for rule in attributes.derived},
    }


def read_run_attributes(record: RunRecord) -> dict[str, Attribute]:
    """Name to attribute, derived ones as plain binary attributes at the end."""
    scored = scored_attributes(record)
    return {**scored, **{name: Attribute(name=name) for name in _described(record)["derived"]}}


def scored_attributes(record: RunRecord) -> dict[str, Attribute]:
    """The attributes with scores: all but the derived ones."""
    return {
        name: Attribute(name=name, kind=value["kind"], classes=tuple(value["classes"]))
        for name, value in _described(record)["attributes"].items()
    }


def _described(record: RunRecord) -> dict[str, Any]:
    key = "questions" if record.kind == "label" else "attributes"
    return dict(record.fingerprint[key])
