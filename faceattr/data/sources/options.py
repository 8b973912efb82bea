"""How a source is read. Every field is text or a tuple of text, so that flags and YAML can set it."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from faceattr.attributes import Attribute, AttributeSet
from faceattr.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Options of `open_source`; an option that a kind does not know is refused.

    Attributes:
        files: label files below the root; default: the layout's usual names. (label_list, celeba, fairface, facecom,
            table)
        image_folder: folder below the root that image names are relative to; default: the layout's usual folders, else
            the root itself. (all but labels)
        attributes: attributes to read, in this order; default: the layout's own. (all)
        columns: `name=column` or `name=column:kind`, see `table.py`. (table)
        class_order: `natural`, or `sorted` for the string-sorted order of published CLIP weights. (fairface)
    """

    files: tuple[str, ...] = ()
    image_folder: str | None = None
    attributes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    class_order: str = "natural"


def near_hint(name: str, known: Iterable[str]) -> str:
    """Returns `did you mean ...?` for a misspelt name, or the list of known ones."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(names)}"


def select_attributes(
    available: Mapping[str, Attribute], wanted: tuple[str, ...], *, default: Iterable[str], where: str
) -> AttributeSet:
    """Selects the wanted attributes of a source, in the requested order.

    Raises:
        ConfigError: one is not available; the text names similar ones.
    """
    for name in wanted:
        if name not in available:
            raise ConfigError(f"{where}: there is no attribute {name!r}; {near_hint(name, available)}")
    return AttributeSet(attributes=tuple(available[name] for name in wanted or default))
