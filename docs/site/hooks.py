"""What `make docs` adds to docs/: pages from elsewhere in the repository, of the commands, and of the examples.

mkdocs calls the functions named `on_...`. Links are written as for a code host, relative to their file; here they lead
to the page that a file became, and a file that is not on the site is named in place of a link.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from command_pages import COMMANDS, page_of, write_index, write_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# File of the repository -> page. mkdocs itself takes what is in docs/.
PAGES = {
    "README.md": "tour.md",
    "pipelines/README.md": "pipelines.md",
    "tune/README.md": "tune.md",
    "cluster/README.md": "cluster.md",
    "cluster/scale.md": "scale.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}
EXAMPLES = {
    f"examples/{path.name}": f"examples/{path.name.replace('.', '-')}.md"
    for path in sorted((ROOT / "examples").iterdir(), key=lambda path: (path.suffix != ".ipynb", path.name))
    if path.is_file()
}
_LANGUAGES = {".sh": "sh", ".py": "python", ".yaml": "yaml"}
_FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_PICTURE = re.compile(r'(<img src=")(?!\w+:)([^"]+)(")')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills the navigation's lines that end with a slash."""
    commands = [{" ".join(each.words): f"commands/{page_of(each)}"} for each in COMMANDS]
    examples = [{name.removeprefix("examples/"): page} for name, page in EXAMPLES.items()]
    filled = {"commands/": ["commands/index.md", *commands], "examples/": ["examples/index.md", *examples]}
    config.nav = [{title: filled.get(str(item), item)} for line in config.nav or [] for title, item in line.items()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not files of docs/."""
    pages = {page: (ROOT / name).read_text(encoding="utf-8") for name, page in PAGES.items()}
    pages |= {"commands/index.md": write_index()}
    pages |= {f"commands/{page_of(command)}": write_page(command) for command in COMMANDS}
    pages |= {"examples/index.md": _list_examples()}
    pages |= {page: _show_example(ROOT / name) for name, page in EXAMPLES.items()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links of a page to the pages that files of the repository became."""
    parts = _FENCED.split(markdown)
    parts[::2] = [_lead_links(part, page.file.src_uri) for part in parts[::2]]
    return "".join(parts)


def _lead_links(text: str, page: str) -> str:
    here = os.path.dirname(page)
    source = {target: name for name, target in (PAGES | EXAMPLES).items()}.get(page, f"docs/{page}")

    def lead(target: str) -> str | None:
        """The address of a file's page; None if it has none."""
        name = os.path.normpath(os.path.join(os.path.dirname(source), target))
        found = (PAGES | EXAMPLES).get(name) or (name.removeprefix("docs/") if name.startswith("docs/") else None)
        if found is None and not (ROOT / name).exists():
            found = target  # mkdocs says that it leads nowhere
        return None if found is None else os.path.relpath(found, here or ".")

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        address = lead(target)
        if address is not None:
            return f"[{words}]({address}{anchor})"
        name = os.path.normpath(os.path.join(os.path.dirname(source), target))
        return words if name in words else f"{words} (`{name}`)"

    text = _PICTURE.sub(lambda found: f"{found[1]}{lead(found[2])}{found[3]}", text)
    return _LINK.sub(link, text)


def _list_examples() -> str:
    rows = [f"| [{name}]({os.path.basename(page)}) | {_summary(ROOT / name)} |" for name, page in EXAMPLES.items()]
    text = (
        "Small files to start from, in the folder `examples/` of the repository. A notebook needs the package and "
        "Jupyter alone: it draws its own faces."
    )
    return "\n".join(["# Examples", "", text, "", "| file | what it shows |", "| --- | --- |", *rows, ""])


def _summary(path: Path) -> str:
    """The first sentence of an example: a notebook's below its title, a file's first comment or docstring."""
    if path.suffix == ".ipynb":
        return "".join(json.loads(path.read_text())["cells"][0]["source"]).split("\n\n")[1].replace("\n", " ")
    (words,) = re.findall(r'^(?:# |""")(.+?)(?:\n|""")', path.read_text(), re.MULTILINE)[:1]
    return str(words)


def _show_example(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return "\n\n".join(map(_show_cell, json.loads(text)["cells"]))
    return f"# {path.name}\n\n```{_LANGUAGES[path.suffix]}\n{text}```\n"


def _show_cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    language = "sh" if source.startswith("%%bash") else "python"
    return f"```{language}\n{source}\n```"
