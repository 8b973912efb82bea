"""Writes docs/zoo.md: `python -m tests.zoo.write`."""

from tests.documents import ROOT
from tests.zoo.table import write_page

if __name__ == "__main__":
    (ROOT / "docs" / "zoo.md").write_text(write_page(), "utf-8")
