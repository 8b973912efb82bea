"""The CelebA JSON: `{"000001": ["1","0","0","1"]}`, in the order Eyeglasses, Mustache, Beard, Hat."""

import json
from collections.abc import Iterator

from faceattr.data.sources.label_table import FoundRow
from faceattr.data.sources.label_values import text_of
from faceattr.data.sources.text import layout_error
from faceattr.data.storage import StorageOptions
from faceattr.data.text_tables import table_file

JSON_ATTRIBUTES = ("eyeglasses", "mustache", "beard", "hat")
_EXPECTED = 'an object such as {"000001": ["1","0","0","1"]}: Eyeglasses, Mustache, Beard, Hat'


def read_celeba_json(uri: str, storage: StorageOptions) -> Iterator[FoundRow]:
    """Entries; `value` is the image name and the values. The whole file is held. Entries are counted as lines are.

    Raises:
        ConfigError: not JSON, or no object of lists.
    """
    with table_file(uri, storage) as file:
        data = file.read()
    try:
        # Pairs, not a dict: a name that stands twice must not vanish here.
        entries = json.loads(data, object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise layout_error(uri, error.lineno, found=f"no JSON ({error.msg})", expected=_EXPECTED) from error
    except UnicodeDecodeError as error:
        raise layout_error(uri, None, found="bytes that are not UTF-8", expected=_EXPECTED) from error
    if not isinstance(entries, list) or not data.lstrip().startswith(b"{"):
        raise layout_error(uri, 1, found=f"a JSON {type(entries).__name__}", expected=_EXPECTED)
    for number, (name, values) in enumerate(entries, start=1):
        cells = [text_of(value) for value in values] if isinstance(values, list) else []
        image = name if "." in name else f"{name}.jpg"
        yield FoundRow(where=uri, line=number, text=f"{name}: {values}", value=[image, *cells])
