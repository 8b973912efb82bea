"""Sources by name: the only way to open a layout."""

from collections.abc import Callable
from dataclasses import fields

from faceattr.config import StorageConfig
from faceattr.data.sources.layouts.celeba import open_celeba
from faceattr.data.sources.layouts.facecom import open_facecom
from faceattr.data.sources.layouts.fairface import open_fairface
from faceattr.data.sources.layouts.label_list import open_label_list
from faceattr.data.sources.layouts.published import open_labels
from faceattr.data.sources.layouts.table import open_table
from faceattr.data.sources.layouts.utkface import open_utkface
from faceattr.data.sources.options import SourceOptions, near_hint
from faceattr.data.sources.source import SourceLabels
from faceattr.errors import ConfigError

OpenSource = Callable[[str, SourceOptions, StorageConfig], SourceLabels]

# Kind: how it is opened, and the options that it knows.
_SOURCES: dict[str, tuple[OpenSource, frozenset[str]]] = {
    "labels": (open_labels, frozenset(["attributes"])),
    "label_list": (open_label_list, frozenset(["attributes", "files", "image_folder"])),
    "celeba": (open_celeba, frozenset(["attributes", "files", "image_folder"])),
    "fairface": (open_fairface, frozenset(["attributes", "files", "image_folder", "class_order"])),
    "utkface": (open_utkface, frozenset(["attributes", "image_folder"])),
    "facecom": (open_facecom, frozenset(["attributes", "files", "image_folder"])),
    "table": (open_table, frozenset(["attributes", "files", "image_folder", "columns"])),
}
SOURCE_KINDS = tuple(_SOURCES)


def open_source(
    kind: str, root: str, *, options: SourceOptions | None = None, storage: StorageConfig | None = None
) -> SourceLabels:
    """Opens the labels of a source and reads up to its first good rows.

    Args:
        kind: one of SOURCE_KINDS.
        root: URI of the folder that contains labels and images; for `labels` the run folder.
        options: how it is read.
        storage: how it is reached.

    Raises:
        ConfigError: an unknown kind, an option that the kind does not know, or files in another layout.
    """
    if kind not in _SOURCES:
        raise ConfigError(f"source {kind!r}: {near_hint(kind, _SOURCES)}")
    open_kind, known = _SOURCES[kind]
    options = options or SourceOptions()
    for field in fields(options):
        if field.name not in known and getattr(options, field.name) != field.default:
            raise ConfigError(f"source {kind!r} has no option {field.name!r}; it knows {', '.join(sorted(known))}")
    return open_kind(root, options, storage or StorageConfig())
