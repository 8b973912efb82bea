"""Text cells of CSV files that people open: a spreadsheet runs a cell that starts like a formula.

As OWASP advises ("CSV Injection"), a text that starts with = + - @, a tab or a carriage return (or with the full-width
forms, which spreadsheets treat alike) is prefixed with an apostrophe. Numbers are unchanged. It can be undone: if a
formula's first character follows apostrophes, exactly one apostrophe is ours.
"""

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def neutralise(value: Any) -> Any:
    """Returns the value of a cell; a text that starts like a formula gets an apostrophe as prefix."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def neutralise_table(table: pa.Table) -> pa.Table:
    """Returns the table with its texts neutralised."""
    for place, column in enumerate(table.schema):
        if pa.types.is_string(column.type):
            texts = pc.replace_substring_regex(table[column.name], f"^({_FORMULA.pattern})", r"'\1")
            table = table.set_column(place, column, texts)
    return table


def restore(text: str) -> str:
    """Returns the text that was passed to `neutralise`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
