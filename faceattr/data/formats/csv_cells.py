"""Texts in CSV files that people open: a spreadsheet runs a cell that begins like a formula.

As OWASP advises ("CSV Injection"), an apostrophe is put in front of a text that begins with = + - @, a tab or a
carriage return (or with the full-width forms, which spreadsheets take for the same). Numbers are left as they are. It
can be undone: where a formula's first character stands behind apostrophes, exactly one apostrophe is ours.
"""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def neutralise(value: Any) -> Any:
    """The value of a cell; a text that begins like a formula gets an apostrophe in front of it."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def neutralise_table(table: pa.Table) -> pa.Table:
    """The table with its texts neutralised."""
    for place, column in enumerate(table.schema):
        if pa.types.is_string(column.type):
            texts = pc.replace_substring_regex(table[column.name], f"^({_FORMULA.pattern})", r"'\1")
            table = table.set_column(place, column, texts)
    return table


def restore(text: str) -> str:
    """The text that `neutralise` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
