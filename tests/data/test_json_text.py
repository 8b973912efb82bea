"""JSON that every reader takes: what it cannot hold is null."""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest

from faceattr.data.formats.json_text import encode_json

PACKAGE = Path(__file__).parents[2] / "faceattr"
# Texts that are hashed or cannot hold a float, and the one writer.
OTHER_WRITERS = {
    "data/formats/json_text.py",
    "data/packed/reader.py",
    "data/formats/parquet.py",
    "data/sources/writers.py",
    "models/saved.py",
    "config/fit.py",
    "vqa/blip/oracle/request.py",
    "watch/write.py",
    "logs.py",
}


def refuse(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_numbers_that_json_lacks_are_null_however_deep_they_stand(bad):
    text = encode_json({"a": [1.5, bad, {"b": (bad, 2)}], "c": bad, "d": "NaN"})
    assert json.loads(text, parse_constant=refuse) == {"a": [1.5, None, {"b": [None, 2]}], "c": None, "d": "NaN"}


def test_other_values_are_written_as_python_writes_them():
    value = {"a": [1, 2.5, None, True, "é\x1b"], "b": {}}
    assert encode_json(value) == json.dumps(value)
    assert encode_json(value, indent=1) == json.dumps(value, indent=1)


def test_a_circle_is_refused():
    circle = [math.nan]
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        encode_json(circle)


def test_json_is_written_in_one_place():
    calls = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps") and ast.unparse(node.value) == "json"
    }
    assert calls <= OTHER_WRITERS
