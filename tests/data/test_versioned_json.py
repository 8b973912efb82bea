import json

import pytest

from faceattr.data.formats.json_files import decode_lines, decode_versioned, encode_versioned
from faceattr.errors import ConfigError, RunError


def test_a_file_says_its_version_and_is_read_without_it():
    data = encode_versioned({"rows": 3, "rate": float("nan")})
    assert json.loads(data) == {"rows": 3, "rate": None, "schema_version": 1}
    assert decode_versioned(data, "sessions/1.json") == {"rows": 3, "rate": None}


def test_a_file_without_a_version_is_of_the_time_before_formats_had_one():
    assert decode_versioned(b'{"rows": 3}', "sessions/1.json", version=2) == {"rows": 3}


def test_an_older_version_is_read():
    assert decode_versioned(encode_versioned({"rows": 3}), "sessions/1.json", version=2) == {"rows": 3}


def test_a_newer_version_is_refused_with_what_to_do():
    with pytest.raises(ConfigError) as caught:
        decode_versioned(encode_versioned({"rows": 3}, version=3), "s3://faces/run/sessions/1.json", version=2)
    assert str(caught.value) == (
        "s3://faces/run/sessions/1.json has schema version 3; this faceattr reads versions up to 2. Use the faceattr "
        "that wrote it, or a later one"
    )


@pytest.mark.parametrize("version", ["1", 1.0, 0, True, None])
def test_what_is_no_version_is_damage(version):
    with pytest.raises(RunError, match=r"run\.json is damaged: 'schema_version': expected a number from 1 on, found"):
        decode_versioned(json.dumps({"schema_version": version}).encode(), "run.json")


def test_each_line_has_its_own_version():
    lines = encode_versioned({"epoch": 0}) + b'\n{"epoch": 1}\n'
    assert decode_lines(lines, "metrics.jsonl") == [{"epoch": 0}, {"epoch": 1}]
    with pytest.raises(ConfigError, match=r"metrics\.jsonl, line 2, has schema version 2; this faceattr reads"):
        decode_lines(encode_versioned({}) + b"\n" + encode_versioned({}, version=2), "metrics.jsonl")
