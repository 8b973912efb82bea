#!/usr/bin/env python
"""Bring labels of your own: convert them to a table that faceattr packs, and check it before anything is packed.

Data sets in another layout need no code in faceattr: `--source table` reads any CSV or Parquet file by a mapping of
columns. So a few lines turn your labels into such a table. This script shows it for a JSON Lines file:

    {"file": "a.jpg", "tags": ["hat"], "age": "20-29", "person": "p1"}

Every tag in `TAGS` becomes a yes/no attribute, the age an age, the person a group, so that photos of one person stay in
one split. To change it, edit `read_rows` and `COLUMNS`. A layout that many people have is better added to faceattr
itself: docs/recipes.md, "Add a source".

    python examples/own_source.py annotations.jsonl ./photos
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source

TAGS = ("hat", "glasses")
# `name=column` or `name=column:kind`: what the columns of the table mean.
COLUMNS = ("image=file", "group=person", *(f"{tag}={tag}" for tag in TAGS), "age=age:age")


def read_rows(annotations: Path) -> Iterator[dict[str, object]]:
    """Your labels, one dictionary an image. An empty text is unknown; 0 is a no, so do not write it for unknown."""
    for line in annotations.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        labels: dict[str, object] = {tag: int(tag in entry["tags"]) for tag in TAGS}
        yield {"file": entry["file"], "person": entry.get("person", ""), **labels, "age": entry.get("age", "")}


def write_table(rows: Iterator[dict[str, object]], path: Path) -> None:
    """Writes the table that `--source table` finds by its name, labels.csv."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "person", *TAGS, "age"])
        writer.writeheader()
        writer.writerows(rows)


def check_table(folder: Path) -> str:
    """Reads the table as pack.py will, and says what it found. Images are not opened yet."""
    source = open_source("table", str(folder), options=SourceOptions(columns=COLUMNS))
    table, rejects = source.read_all()
    names = ", ".join(f"{each.name} ({each.kind})" for each in source.attributes.attributes)
    lines = [f"{len(table)} images, attributes {names}", rejects.describe()]
    flags = " ".join(f'"{column}"' for column in COLUMNS)
    pack = f"python pipelines/pack.py --source table --root {folder} --source-options.columns {flags} --output ./packed"
    return "\n".join([*filter(None, lines), pack])


def main(argv: list[str]) -> int:
    """Exit code: 0 done, 2 the command is wrong."""
    if len(argv) != 2:
        print(__doc__)
        return 2
    annotations, folder = map(Path, argv)
    write_table(read_rows(annotations), folder / "labels.csv")
    print(check_table(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
