"""YAML of users: a key twice, nesting without end and aliases that multiply are refused in one line."""

import pytest

from faceattr.errors import ConfigError
from faceattr.yaml_files import load_yaml

# Twenty lines, each with the line before it twice: a million values.
BOMB = "a0: &a0 [1, 2]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 20))


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("lr: 1\nepochs: 2\nlr: 3\n", "line 3: the key 'lr' stands twice, first in line 1"),
        ("optim:\n  lr: 1\n  'lr': 3\n", "line 3: the key 'optim.lr' stands twice, first in line 2"),
        ("a: [{b: 1, b: 2}]\n", "line 1: the key 'a.b' stands twice"),
        ("a:\n  " + "[" * 100_000, "line 2: nested more than 32 deep"),
        ("".join(f"{' ' * depth}k:\n" for depth in range(5_000)), "line 33: nested more than 32 deep"),
        ("a: &a [*a]\n", "an alias refers to a value that contains it"),
        (BOMB, "more than 100,000 values"),
        ("a: [1\nb: 2\n", "not valid YAML"),
        ("a: \x00", "not valid YAML: special characters are not allowed"),
        ("- a\n- b\n", "expected 'key: value' lines"),
        ("", "expected 'key: value' lines"),
    ],
)
def test_a_wrong_text_is_refused_in_one_line_that_names_the_place(text, problem, typed):
    with pytest.raises(ConfigError, match=r"^run\.yaml: ") as error:
        load_yaml(text, "run.yaml", typed=typed)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("value", ["2024-13-45", "9" * 5_000])
def test_a_scalar_that_cannot_be_what_it_looks_like_is_refused_with_its_line(value):
    with pytest.raises(ConfigError, match=r"^run\.yaml: line 2: not valid YAML: "):
        load_yaml(f"a: 1\nb: {value}\n", "run.yaml")


def test_values_are_typed_or_text():
    text = "a: 1e-4\nb: [no, 2]\nc: {d: null}\n7: x\n"
    assert load_yaml(text, "f") == {"a": 1e-4, "b": [False, 2], "c": {"d": None}, "7": "x"}
    assert load_yaml(text, "f", typed=False) == {"a": "1e-4", "b": ["no", "2"], "c": {"d": "null"}, "7": "x"}


def test_one_anchor_used_twice_is_no_key_given_twice():
    assert load_yaml("a: &x {b: 1}\nc: *x\n", "f") == {"a": {"b": 1}, "c": {"b": 1}}
