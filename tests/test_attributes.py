"""Attributes, and the three-valued logic of rules over them."""

import pytest

from faceattr.attributes import Attribute, AttributeSet, DerivedAttribute, check_attribute_name
from faceattr.errors import ConfigError

N = None
# Kleene's tables, row a, column b, each in the order 0, unknown, 1.
AND = {0: {0: 0, N: 0, 1: 0}, N: {0: 0, N: N, 1: N}, 1: {0: 0, N: N, 1: 1}}
OR = {0: {0: 0, N: N, 1: 1}, N: {0: N, N: N, 1: 1}, 1: {0: 1, N: 1, 1: 1}}
NOT = {0: 1, N: N, 1: 0}


def evaluate(rule, **labels):
    return DerivedAttribute(name="derived", rule=rule).evaluate(labels)


@pytest.mark.parametrize("a", [0, N, 1])
@pytest.mark.parametrize("b", [0, N, 1])
def test_and_or_of_two(a, b):
    assert evaluate("a and b", a=a, b=b) is AND[a][b]
    assert evaluate("a or b", a=a, b=b) is OR[a][b]


@pytest.mark.parametrize("a", [0, N, 1])
def test_not_and_a_name_alone(a):
    assert evaluate("not a", a=a) is NOT[a]
    assert evaluate("not not a", a=a) is a
    assert evaluate("a", a=a) is a


@pytest.mark.parametrize(
    ("hat", "glasses", "facial_hair", "expected"),
    [
        (0, 0, 0, 1),
        (0, 1, 0, 0),
        (N, 1, N, 0),  # glasses alone decide
        (N, 0, 0, N),
        (0, 0, N, N),
        (N, N, N, N),
    ],
)
def test_a_clear_face(hat, glasses, facial_hair, expected):
    rule = "not (hat or glasses or facial_hair)"
    assert evaluate(rule, hat=hat, glasses=glasses, facial_hair=facial_hair) is expected


@pytest.mark.parametrize(
    ("rule", "labels", "expected"),
    [
        ("a or b and c", {"a": 1, "b": 0, "c": 0}, 1),  # `and` binds closer
        ("(a or b) and c", {"a": 1, "b": 0, "c": 0}, 0),
        ("not a and b", {"a": 0, "b": 0}, 0),  # `not` binds closest
        ("not (a and b)", {"a": 0, "b": 0}, 1),
        ("a and b and c", {"a": 1, "b": N, "c": 0}, 0),
        ("a or b or c", {"a": 0, "b": N, "c": 0}, N),
        ("  a or\tb ", {"a": 0, "b": 1}, 1),
    ],
)
def test_precedence_and_chains(rule, labels, expected):
    assert evaluate(rule, **labels) is expected


def test_inputs_of_a_rule_in_order_of_use():
    assert sorted(DerivedAttribute(name="d", rule="not (b or a) and b").inputs) == ["a", "b"]
    assert DerivedAttribute(name="d", rule="c or a or b").inputs == ("c", "a", "b")


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("a == b", "Compare"),
        ("a + b", "BinOp"),
        ("-a", "USub"),
        ("True", "Constant"),
        ("1", "Constant"),
        ("a if b else c", "IfExp"),
        ("f(a)", "Call"),
        ("a.b", "Attribute"),
        ("a[0]", "Subscript"),
        ("(a := b)", "NamedExpr"),
        ("lambda: a", "Lambda"),
        ("__import__('os')", "Call"),
        ("a and", "cannot be read"),
        ("a b", "cannot be read"),
        ("", "cannot be read"),
        ("import os", "cannot be read"),
        ("a && b", "cannot be read"),
        ("a\x00", "cannot be read"),
    ],
)
def test_a_rule_of_anything_else_is_refused(rule, found):
    with pytest.raises(ConfigError, match="derived attribute 'd': the rule") as error:
        DerivedAttribute(name="d", rule=rule)
    assert found in str(error.value)


@pytest.mark.parametrize("name", ["a", "hat", "facial_hair", "x9", "a" * 48])
def test_good_names(name):
    check_attribute_name(name)


@pytest.mark.parametrize("name", ["", "Hat", "9x", "_x", "a-b", "a b", "é", "a" * 49, "a\n", "a.b"])
def test_names_that_are_no_column_names(name):
    with pytest.raises(ConfigError, match="expected lower-case letters"):
        check_attribute_name(name)


@pytest.mark.parametrize(
    "name", ["row", "image_id", "status", "error", "split", "hat_score", "hat_mass", "race_mask", "age_low"]
)
def test_names_that_the_tables_use(name):
    with pytest.raises(ConfigError, match="used by the tables"):
        check_attribute_name(name)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": "Hat"}, "lower-case"),
        ({"name": "hat", "classes": ("yes", "no")}, r"\('no', 'yes'\)"),
        ({"name": "hat", "kind": "multiclass", "classes": ("a",)}, "at least two"),
        ({"name": "hat", "kind": "multiclass", "classes": ("a", "b", "a")}, "repeat"),
    ],
)
def test_attributes_that_are_refused(values, problem):
    with pytest.raises(ConfigError, match=problem):
        Attribute(**values)


HAT, GLASSES = Attribute(name="hat"), Attribute(name="glasses")
GENDER = Attribute(name="gender", kind="multiclass", classes=("male", "female"))


def test_a_set_keeps_the_order_and_finds_by_name():
    attributes = AttributeSet(attributes=(HAT, GENDER), derived=(DerivedAttribute(name="bare", rule="not hat"),))
    assert attributes.names == ("hat", "gender")
    assert attributes["gender"] is GENDER
    with pytest.raises(KeyError):
        attributes["bare"]


@pytest.mark.parametrize(
    ("attributes", "rules", "problem"),
    [
        ((), {}, "at least one"),
        ((HAT, GLASSES, HAT), {}, r"repeat: \['hat'\]"),
        ((HAT,), {"hat": "not hat"}, r"repeat: \['hat'\]"),
        ((HAT,), {"x": "not glasses"}, r"'x' reads \['glasses'\], not among the binary attributes \['hat'\]"),
        ((HAT, GENDER), {"x": "hat and gender"}, r"'x' reads \['gender'\]"),
        ((HAT,), {"x": "hat", "y": "x"}, r"'y' reads \['x'\]"),
    ],
)
def test_sets_that_are_refused(attributes, rules, problem):
    derived = tuple(DerivedAttribute(name=name, rule=rule) for name, rule in rules.items())
    with pytest.raises(ConfigError, match=problem):
        AttributeSet(attributes=attributes, derived=derived)
