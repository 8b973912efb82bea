"""The site that `make docs` builds: its navigation, the pages of the commands, and every link and anchor of it."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from docs.site.command_pages import Flag, list_sections, page_of, write_page
from faceattr.commands.table import COMMANDS, find_command
from faceattr.config.train import TrainConfig
from tests.browser import find_browser, open_page, start_browser
from tests.documents import ROOT, SCRIPTS, read

# Pages that are no files of docs/; docs/site/hooks.py makes them.
FILLED = {"commands/", "examples/"}


def navigation() -> list[str]:
    """What the navigation of mkdocs.yml leads to, in its order."""
    text = read("mkdocs.yml").split("\nnav:\n")[1].split("\ntheme:\n")[0]
    return re.findall(r"(?:- |: )(\S+(?:\.md|/))$", text, re.MULTILINE)


def pages_from_elsewhere() -> dict[str, str]:
    """File of the repository -> page, as docs/site/hooks.py has them."""
    text = read("docs/site/hooks.py").split("\nPAGES = {")[1].split("}")[0]
    return dict(re.findall(r'"(.+?)": "(.+?)"', text))


def test_every_chapter_is_in_the_navigation():
    named = navigation()
    chapters = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    chapters |= set(pages_from_elsewhere().values())
    for chapter in sorted(chapters):
        assert chapter in named, f"docs/{chapter} is in no menu: add a line `- Title: {chapter}` to nav in mkdocs.yml"
    for name in named:
        assert name in chapters | FILLED, f"nav in mkdocs.yml names {name}, which is no file of docs/"
    assert len(named) == len(set(named))


def test_every_folder_that_has_a_readme_is_a_page():
    found = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("*.md")}
    found |= {f"{folder}/README.md" for folder in ("pipelines", "tune", "cluster")} | {"cluster/scale.md"}
    assert set(pages_from_elsewhere()) == found


def flags_of(config_class: type) -> list[Flag]:
    return [flag for section in list_sections(config_class) for flag in section.flags]


def test_the_pages_have_the_flags_and_defaults_of_the_help():
    """The help that users see is stored in tests/goldens/expected/flags.json; it has no names of positional values."""
    words_of = {"None": "", "''": ""}
    switched = words_of | {"True": "on", "False": "off"}
    for name, stored in json.loads(read("tests/goldens/expected/flags.json")).items():
        command = find_command(name.split()[1:])
        config_class = SCRIPTS[name] if command is None else command.resolve()
        expected = {}
        for written, text in stored.items():
            default = text.removeprefix("default: ")
            known = switched if ", --" in written else words_of
            if written.startswith("--"):
                words = frozenset(re.findall(r"--[\w.-]+", written))
                expected[words] = None if text == "required" else known.get(default, default)
        found = {frozenset(each.words): each.default for each in flags_of(config_class) if not each.is_positional}
        assert found == expected, name


def test_a_flag_shows_its_values_and_its_help():
    flags = {flag.name: flag for flag in flags_of(TrainConfig)}
    assert flags["optim.name"].values == "adamw|adam|sgd"
    assert flags["optim.lr"].values == "FLOAT or auto"
    assert flags["data"].values == "STR ..."
    assert flags["loss.weights"].values == "STR FLOAT ..."
    assert [flag.name for command in COMMANDS for flag in flags_of(command.resolve()) if not flag.help] == []
    command = find_command(["predict"])
    assert command is not None
    assert '<tr id="visualize"><td><code>--visualize</code>, <code>--no-visualize</code>' in write_page(command)
    assert "as &lt;name&gt;_pred.jpg." in write_page(command)


class Document(HTMLParser):
    """What a page names: `ids`, `links` to other places, and `loaded`, what a browser fetches to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self.classes |= set(given.get("class", "").split())
        if tag in ("a", "link") and "href" in given:
            (self.links if tag == "a" or given.get("rel") in ("next", "prev") else self.loaded).append(given["href"])
        self.loaded += [given["src"]] if "src" in given else []


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).scheme or urlsplit(address).netloc)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` does, but to another folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=env, check=False, capture_output=True, text=True, timeout=500)
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def documents(site) -> dict[Path, Document]:
    return {path: Document(path.read_text()) for path in site.rglob("*.html")}


def broken_links(path: Path, documents: dict[Path, Document]) -> Iterator[str]:
    for address in documents[path].links + documents[path].loaded:
        if is_elsewhere(address):
            continue
        name, _, anchor = unquote(address).partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.is_file() or (anchor and target in documents and anchor not in documents[target].ids):
            yield address


@pytest.mark.long
def test_every_link_and_anchor_of_the_site_leads_somewhere(site, documents):
    assert len(documents) > 50
    # A page for addresses that do not exist knows no place that its links are relative to.
    pages = [path for path in documents if path.name != "404.html"]
    wrong = {str(path.relative_to(site)): found for path in pages if (found := list(broken_links(path, documents)))}
    assert wrong == {}


@pytest.mark.long
def test_the_site_is_readable_offline(site, documents):
    for path, document in documents.items():
        assert [address for address in document.loaded if is_elsewhere(address)] == [], path
        # Only for these the theme's script would load a library from another host.
        assert not document.classes & {"mermaid"}, path
    for path in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\s]+", path.read_text()) == [], path
    assert (site / "search" / "search_index.js").is_file()


@pytest.mark.long
def test_every_command_has_a_page_on_the_site(documents):
    pages = {"/".join(path.parts[-2:]): document for path, document in documents.items()}
    for command in COMMANDS:
        document = pages[f"commands/{page_of(command).replace('.md', '.html')}"]
        assert {flag.name for flag in flags_of(command.resolve())} <= document.ids


async def search_from_file(site: Path, words: str) -> list[str]:
    """The addresses that the search field of a page lists, in a browser, without a server."""
    with start_browser() as port:
        async with open_page(port, (site / "glossary.html").as_uri()) as page:
            await page.evaluate("document.querySelector('.md-search__input').focus()")
            for letter in words:
                await page.press(letter)
            await page.wait("document.querySelectorAll('.md-search-result__link').length > 0")
            found = await page.evaluate("[...document.querySelectorAll('.md-search-result__link')].map((e) => e.href)")
            assert page.errors == []
            return found


@pytest.mark.long
@pytest.mark.skipif(find_browser() is None, reason="needs Chromium (apt-get install chromium)")
def test_search_works_from_a_file(site):
    found = asyncio.run(search_from_file(site, "rethreshold"))
    assert any("commands/label.html" in address for address in found)
    assert all(address.startswith("file://") for address in found)
