"""Attributes: the single definition that questions, table columns, heads, losses and metrics are derived from.

An attribute is one predicted property of a face. Its classes have a fixed order, which is defined once, here or in the
user's file, and stored with everything that is made from it. A derived attribute is a rule over binary attributes,
evaluated in three-valued (Kleene) logic: an unknown input gives an unknown result unless the other inputs decide it.

How to add a kind: only the files below compare kinds; all other code asks the properties of `Attribute`. Add the name
to `AttributeKind` and run mypy, which reports every `match` that does not handle it.

    attributes.py                      what the kind is: the properties of `Attribute`
    data/label_columns.py              its columns: packed, published, outputs of a model; in exported files
    models/heads.py                    outputs of its head
    training/targets.py                its labels as tensors, and the bins in which they are counted
    training/losses/attribute_loss.py  its loss
    training/metrics.py                its figures in validation, and which of them judge a trial
    evaluation/scores.py               outputs to scores, and which outputs a scored table keeps
    evaluation/decisions.py            scores to labels
    evaluation/figures.py              its figures in test: whole, resampled, by group, with intervals
    reports/plots/evaluation.py        its pictures

A word for it in data/sources/layouts/table.py lets a foreign table hold it. tests/jobs/test_every_kind.py fails until
it has labels of the kind, and then takes them through pack, train, eval, predict and export.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, assert_never

from faceattr.errors import ConfigError

AttributeKind = Literal["binary", "multiclass", "age", "identity"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
DEFAULT_THRESHOLD = 0.5
"""A binary attribute is a yes if its score is at least this threshold, unless another one is given."""
# Suffixes and names that the tables use for their own columns.
_RESERVED_SUFFIXES = ("_score", "_mass", "_mask", "_low", "_high")
RESERVED_NAMES = frozenset(
    [
        "row",
        "image_id",
        "uri",
        "source_row",
        "picture_hash",
        "place",
        "sha256",
        "width_px",
        "height_px",
        "face_box",
        "face_score",
        "status",
        "error",
        "num_bytes",
        "etag",
        "image",
        "split",
        "group",
        "key",
        "path",
    ]
)


def check_attribute_name(name: str) -> None:
    """Raises ConfigError unless `name` can prefix a column: lower case, digits and underscores, not reserved."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"attribute name {name!r}: expected lower-case letters, digits and underscores, a letter first, "
            "48 characters at most"
        )
    if name in RESERVED_NAMES or name.endswith(_RESERVED_SUFFIXES):
        raise ConfigError(f"attribute name {name!r} is used by the tables themselves; choose another")


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One predicted property of a face.

    Attributes:
        name: column name, `[a-z][a-z0-9_]*`.
        kind: `binary` (classes no, yes), `multiclass`, `age` (years) or `identity`.
        classes: class names in index order; for `binary` always ("no", "yes"); empty for `age`.
    """

    name: str
    kind: AttributeKind = "binary"
    classes: tuple[str, ...] = ("no", "yes")

    @property
    def has_classes(self) -> bool:
        """Whether a label is an index into `classes`, not a number of years."""
        match self.kind:
            case "binary" | "multiclass" | "identity":
                return True
            case "age":
                return False
        assert_never(self.kind)

    @property
    def is_yes_no(self) -> bool:
        """Whether a label is no or yes: one logit, one score P(yes), and counts of yes."""
        match self.kind:
            case "binary":
                return True
            case "multiclass" | "age" | "identity":
                return False
        assert_never(self.kind)

    @property
    def has_threshold(self) -> bool:
        """Whether the label is decided by a threshold on the score, which validation can choose."""
        match self.kind:
            case "binary":
                return True
            case "multiclass" | "age" | "identity":
                return False
        assert_never(self.kind)

    @property
    def can_be_coarse(self) -> bool:
        """Whether a label may leave several classes possible, as a mask."""
        match self.kind:
            case "multiclass":
                return True
            case "binary" | "age" | "identity":
                return False
        assert_never(self.kind)

    @property
    def is_years(self) -> bool:
        """Whether a label is a range of years, and a prediction a number of years."""
        match self.kind:
            case "age":
                return True
            case "binary" | "multiclass" | "identity":
                return False
        assert_never(self.kind)

    @property
    def is_person(self) -> bool:
        """Whether the classes are persons: of many thousands, only the likeliest few are stored and shown."""
        match self.kind:
            case "identity":
                return True
            case "binary" | "multiclass" | "age":
                return False
        assert_never(self.kind)

    @property
    def has_score(self) -> bool:
        """Whether a prediction comes with a score in [0, 1], as the column `<name>_score`."""
        match self.kind:
            case "binary" | "multiclass" | "identity":
                return True
            case "age":
                return False
        assert_never(self.kind)

    @property
    def has_class_scores(self) -> bool:
        """Whether the scores of all classes are stored, for calibration, plots and soft labels."""
        match self.kind:
            case "binary" | "multiclass":
                return True
            case "age" | "identity":
                return False
        assert_never(self.kind)

    @property
    def has_class_figures(self) -> bool:
        """Whether each class has its own metrics, such as `f1/<class>`."""
        match self.kind:
            case "multiclass":
                return True
            case "binary" | "age" | "identity":
                return False
        assert_never(self.kind)

    @property
    def main_figure(self) -> str:
        """The metric to show if only one is shown; validation and test both compute it."""
        match self.kind:
            case "binary":
                return "f1"
            case "multiclass":
                return "macro_f1"
            case "age":
                return "mae"
            case "identity":
                return "top1"
        assert_never(self.kind)

    @property
    def label_words(self) -> str:
        """The labels in words, for reports."""
        match self.kind:
            case "binary":
                return "yes or no"
            case "multiclass":
                return "classes"
            case "age":
                return "years"
            case "identity":
                return "persons"
        assert_never(self.kind)

    def __post_init__(self) -> None:
        check_attribute_name(self.name)
        if self.kind == "binary" and self.classes != ("no", "yes"):
            raise ConfigError(f"attribute {self.name!r}: a binary attribute has the classes ('no', 'yes')")
        if self.kind == "multiclass" and len(self.classes) < 2:
            raise ConfigError(f"attribute {self.name!r}: a multiclass attribute needs at least two classes")
        if len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"attribute {self.name!r}: class names repeat in {list(self.classes)}")


@dataclass(frozen=True, kw_only=True)
class DerivedAttribute:
    """A binary attribute that is derived from others by a rule of `and`, `or`, `not` and parentheses.

    Attributes:
        name: column name.
        rule: for example `not (hat or glasses or facial_hair)`.
    """

    name: str
    rule: str

    def __post_init__(self) -> None:
        check_attribute_name(self.name)
        _parse_rule(self.rule, self.name)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names that the rule reads, in order of first use."""
        nodes = ast.walk(_parse_rule(self.rule, self.name))
        return tuple(dict.fromkeys(node.id for node in nodes if isinstance(node, ast.Name)))

    def evaluate(self, labels: Mapping[str, int | None]) -> int | None:
        """Returns the value of the rule: 1, 0, or None if the known labels do not decide it (Kleene logic)."""
        return _evaluate(_parse_rule(self.rule, self.name), labels)


def _parse_rule(rule: str, name: str) -> ast.expr:
    hint = f"derived attribute {name!r}: the rule {rule!r} may use attribute names, and, or, not and parentheses"
    try:
        tree = ast.parse(rule.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{hint}; it cannot be read") from error
    for node in ast.walk(tree):
        if not isinstance(node, ast.BoolOp | ast.UnaryOp | ast.Name | ast.And | ast.Or | ast.Not | ast.Load):
            raise ConfigError(f"{hint}; found {type(node).__name__}")
    return tree


def _evaluate(node: ast.expr, labels: Mapping[str, int | None]) -> int | None:
    match node:
        case ast.Name(id=name):
            return labels[name]
        case ast.UnaryOp(operand=operand):
            value = _evaluate(operand, labels)
            return None if value is None else 1 - value
        case ast.BoolOp(op=op, values=values):
            # A single 1 decides `or` and a single 0 decides `and`, whatever the unknown inputs are.
            deciding = 1 if isinstance(op, ast.Or) else 0
            known = [_evaluate(value, labels) for value in values]
            if deciding in known:
                return deciding
            return None if None in known else 1 - deciding
    raise AssertionError(f"unchecked rule node {node!r}")


@dataclass(frozen=True, kw_only=True)
class AttributeSet:
    """The attributes of one run, in column order, and the rules over them.

    Attributes:
        attributes: asked or learnt attributes.
        derived: rules over binary attributes; a rule may not read another rule's result.
    """

    attributes: tuple[Attribute, ...]
    derived: tuple[DerivedAttribute, ...] = ()

    def __post_init__(self) -> None:
        if not self.attributes:
            raise ConfigError("an attribute set needs at least one attribute")
        names = [*self.names, *(rule.name for rule in self.derived)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ConfigError(f"attribute names repeat: {repeated}")
        binary = {attribute.name for attribute in self.attributes if attribute.is_yes_no}
        for rule in self.derived:
            unknown = [name for name in rule.inputs if name not in binary]
            if unknown:
                raise ConfigError(
                    f"derived attribute {rule.name!r} reads {unknown}, not among the binary attributes {sorted(binary)}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the attributes, without the derived ones."""
        return tuple(attribute.name for attribute in self.attributes)

    def __getitem__(self, name: str) -> Attribute:
        for attribute in self.attributes:
            if attribute.name == name:
                return attribute
        raise KeyError(name)
