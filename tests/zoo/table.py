"""The page docs/zoo.md: every kind, and what becomes of it."""

from faceattr.errors import escape
from tests.zoo.kinds import Kind, Picture
from tests.zoo.names import BACKSLASH, CONTROL_NAMES, NAMES
from tests.zoo.zoo import FAMILIES, kinds_of

_HEAD = """# The zoo

Kinds of image file that a run was tried with, and what becomes of each: {kinds} kinds and {names} names. The files
are made by code ([tests/zoo](../tests/zoo/zoo.py)), go through the run's own listing, reading and decoding, and are
compared with pixels that are known without a decoder. `python -m pytest tests/zoo` does so, with `-m ""` for the large
ones too. Each is read within 10 seconds and 512 MiB of the decoding process (WebP of the largest size: 850 MiB). A row
with a reason has the details in its column `error`. This page is written by `python -m tests.zoo.write`; a test
compares the two.
"""

_NAMES = (
    (NAMES, "read as any other"),
    (CONTROL_NAMES, "in a folder or prefix read as any other; in a manifest refused with its row"),
    (BACKSLASH, "in a folder read as any other; in a manifest it separates folders, as on Windows"),
)


def write_page() -> str:
    """The page as it should be."""
    parts = []
    for family in FAMILIES:
        rows = "\n".join(f"| `{kind.name}` | {kind.what} | {_outcome(kind)} |" for kind in kinds_of(family))
        parts.append(f"## {family}\n\n| file | what it is | outcome |\n| --- | --- | --- |\n{rows}\n")
    num_kinds = sum(1 for family in FAMILIES for _ in kinds_of(family))
    names = "\n".join(
        f"| {what} | `{_shown(name)}` | {outcome} |" for group, outcome in _NAMES for what, name in group.items()
    )
    parts.append(
        "## Names\n\nOn a local disk and on S3, in a folder or prefix and in a CSV manifest.\n\n"
        f"| what is special | name | outcome |\n| --- | --- | --- |\n{names}\n"
    )
    return "\n".join([_HEAD.format(kinds=num_kinds, names=sum(len(group) for group, _ in _NAMES)), *parts])


def _outcome(kind: Kind) -> str:
    if isinstance(kind.expected, Picture):
        exact = f"within {kind.expected.tolerance} levels" if kind.expected.tolerance else "exact"
        return f"{kind.expected.width} x {kind.expected.height} pixels, {exact}"
    reasons = " or ".join(f"`{reason}`" for reason in sorted(kind.expected))
    return f"{reasons}, names {kind.detail}" if kind.detail else reasons


def _shown(name: str) -> str:
    """A name in ASCII, without what ends a cell of the table; a long one with its middle left out."""
    plain = escape(name).encode("ascii", "backslashreplace").decode().replace("|", "\\|").replace("`", "'")
    return plain if len(plain) <= 60 else f"{plain[:28]}...{plain[-28:]}"
