import pytest

from faceattr.attributes import Attribute
from faceattr.audit.threshold_file import decode_thresholds, encode_thresholds, read_thresholds
from faceattr.config import StorageConfig
from faceattr.data.runs.run_attributes import Decision
from faceattr.errors import ConfigError

ATTRIBUTES = {
    "hat": Attribute(name="hat"),
    "glasses": Attribute(name="glasses"),
    "hair": Attribute(name="hair", kind="multiclass", classes=("black", "brown", "blond")),
}


def test_a_file_holds_what_was_chosen(tmp_path):
    decisions = {
        "hat": Decision(threshold=0.31),
        "glasses": Decision(threshold=0.44, abstain=(0.4, 0.5)),
        "hair": Decision(abstain=(0.6, 1.0)),
    }
    data = encode_thresholds(decisions, ATTRIBUTES, "from 400\njudgements")
    assert data.startswith(b"# from 400 judgements\nthresholds:\n  hat: 0.31\n")
    (tmp_path / "thresholds.yaml").write_bytes(data)
    assert read_thresholds(str(tmp_path / "thresholds.yaml"), StorageConfig(), ATTRIBUTES) == decisions


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("hat: 0.3", "expected one key `thresholds`"),
        ("thresholds: {}", "expected one key `thresholds`"),
        ("thresholds: {beard: 0.3}", "t.yaml: beard: no such attribute here; there are hat, glasses, hair"),
        ("thresholds: {hat: 1.3}", "t.yaml: hat: expected a score between 0 and 1, found 1.3"),
        ("thresholds: {hat: yes}", "expected a score between 0 and 1, found True"),
        ("thresholds: {hat: {cut: 0.3}}", "hat: expected abstain and threshold"),
        ("thresholds: {hat: {threshold: 0.3, abstain: [0.4, 0.5]}}", r"around the threshold 0.3; found \[0.4, 0.5\]"),
        ("thresholds: {hat: {abstain: 0.4}}", "expected two scores"),
        ("thresholds: {hair: 0.4}", "hair: expected abstain; found 0.4"),
    ],
)
def test_a_wrong_file_is_one_sentence(text, problem):
    with pytest.raises(ConfigError, match=problem):
        decode_thresholds(text, "t.yaml", ATTRIBUTES)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        read_thresholds(str(tmp_path / "none.yaml"), StorageConfig(), ATTRIBUTES)
