"""`--where`: which rows of a table, as an expression such as `0.3 < hat_score < 0.7 and glasses == 0`.

    comparison    < <= > >= == != between columns, numbers and texts; chains as in Python
    unknown       `hat is None` and `hat is not None`
    logic         and, or, not, parentheses; a binary label alone is its yes: `hat and not glasses`

A column that holds a list of probabilities, the score of an attribute with several classes, stands for the largest of
them. Null is unknown: a comparison with it is unknown (Kleene logic), and a row is taken only if the expression is
true. The text is parsed by Python's parser and evaluated by Arrow; nothing in it is ever run.
"""

import ast
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from faceattr.errors import ConfigError

_MOST_CHARACTERS = 2_000
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
}
_WORDS = "columns, numbers, texts, < <= > >= == != is None, and, or, not and parentheses"


class RowFilter:
    """A parsed expression.

    Args:
        text: the expression.

    Attributes:
        names: the columns that it reads.

    Raises:
        ConfigError: it is not one.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            self._tree = ast.parse(text.strip()[: _MOST_CHARACTERS + 1], mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise self._problem("it cannot be read") from error
        if len(text) > _MOST_CHARACTERS:
            raise self._problem(f"it is longer than {_MOST_CHARACTERS:,} characters")
        self._check(self._tree)
        self.names = tuple(dict.fromkeys(each.id for each in ast.walk(self._tree) if isinstance(each, ast.Name)))
        if not self.names:
            raise self._problem("it names no column")

    def select(self, table: pa.Table) -> pa.Table:
        """Returns the rows for which the expression is true.

        Args:
            table: a table with all of `names`.

        Raises:
            ConfigError: a comparison does not fit the types of the columns.
        """
        return table.filter(self._truth(self._tree, table))

    def _check(self, node: ast.expr) -> None:
        """Checks an expression that is true or false."""
        match node:
            case ast.BoolOp(values=values):
                for each in values:
                    self._check(each)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self._check(operand)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                for op, right in zip(ops, comparators, strict=True):
                    is_none = isinstance(op, ast.Is | ast.IsNot)
                    if type(op) not in _COMPARE and not is_none:
                        raise self._problem(f"found {type(op).__name__}")
                    if is_none != _is_null(right):
                        raise self._problem("`is` and None belong together, as in `hat is None`")
                    self._check_value(left)
                    if not is_none:
                        self._check_value(right)
                    left = right
            case ast.Name():
                pass
            case _:
                raise self._problem(f"expected a comparison, found {ast.unparse(node)!r}")

    def _check_value(self, node: ast.expr) -> None:
        match node:
            case ast.Name() | ast.Constant(value=int() | float() | str()):
                pass
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float())):
                pass
            case _:
                raise self._problem(f"expected a column, a number or a text, found {ast.unparse(node)!r}")

    def _problem(self, found: str) -> ConfigError:
        return ConfigError(f"--where {self._text[:200]!r}: {found}; it may use {_WORDS}")

    def _truth(self, node: ast.expr, table: pa.Table) -> Any:
        match node:
            case ast.BoolOp(op=op, values=values):
                join = pc.and_kleene if isinstance(op, ast.And) else pc.or_kleene
                found = self._truth(values[0], table)
                for each in values[1:]:
                    found = join(found, self._truth(each, table))
                return found
            case ast.UnaryOp(operand=operand):
                return pc.invert(self._truth(operand, table))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                found = None
                for comparison, right in zip(ops, comparators, strict=True):
                    each = self._compare(comparison, left, right, table)
                    found = each if found is None else pc.and_kleene(found, each)
                    left = right
                return found
            case ast.Name(id=name):
                return self._yes(name, table)
        raise AssertionError(ast.dump(node))  # _check lets nothing else pass

    def _compare(self, op: ast.cmpop, left: ast.expr, right: ast.expr, table: pa.Table) -> Any:
        value = self._value(left, table)
        if isinstance(op, ast.Is | ast.IsNot):
            unknown = value.is_null() if isinstance(value, pa.ChunkedArray) else pa.repeat(False, len(table))
            return unknown if isinstance(op, ast.Is) else pc.invert(unknown)
        other = self._value(right, table)
        try:
            found = _COMPARE[type(op)](value, other)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            sides = f"{ast.unparse(left)} ({value.type}) with {ast.unparse(right)} ({other.type})"
            raise ConfigError(f"--where {self._text!r}: cannot compare {sides}") from error
        # A comparison of constants is one value, and a filter needs one for each row.
        return pa.repeat(found, len(table)) if isinstance(found, pa.Scalar) else found

    def _yes(self, name: str, table: pa.Table) -> Any:
        column = table[name]
        if pa.types.is_boolean(column.type):
            return column
        if not pa.types.is_integer(column.type):
            raise ConfigError(
                f"--where {self._text!r}: {name} is {column.type}, not yes or no; compare it with a value"
            )
        return pc.not_equal(column, 0)

    def _value(self, node: ast.expr, table: pa.Table) -> Any:
        if isinstance(node, ast.Name):
            column = table[node.id]
            return _largest(column) if pa.types.is_list(column.type) else column
        return pa.scalar(ast.literal_eval(node))


def _is_null(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _largest(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of numbers -> the largest of each; null for an empty list, or one without numbers."""
    found = [max((each for each in row or [] if each is not None), default=None) for row in column.to_pylist()]
    return pa.chunked_array([pa.array(found, column.type.value_type)])
