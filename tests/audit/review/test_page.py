"""The review page in a real browser, by keyboard alone: what is judged is what the log holds."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from faceattr.attributes import Attribute
from faceattr.audit.judgements import read_judgements
from faceattr.data.stores.local import LocalStore
from tests.audit.audits import HAIR, HAT, write_audit
from tests.audit.review.servers import serve_audit
from tests.browser import find_browser, open_page, start_browser

pytestmark = pytest.mark.skipif(find_browser() is None, reason="needs Chromium (apt-get install chromium)")
NUM_HATS = 25
MANY = Attribute(name="shade", kind="multiclass", classes=tuple(f"shade {number}" for number in range(1, 13)))


@pytest.fixture(scope="module")
def browser():
    with start_browser() as port:
        yield port


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(NUM_HATS):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(tmp_path / f"{number:02d}.png")
    return tmp_path


def look(folder, port, scenario, **options):
    """Opens the page of an audit folder and runs `scenario(page)`; no error may appear in the browser's console."""

    async def run():
        async with serve_audit(folder, **options) as address, open_page(port, f"{address}/") as page:
            await scenario(page)
            assert page.errors == []

    asyncio.run(run())


def logged(folder):
    return [(each.item, each.answer, each.reviewer) for each in read_judgements(LocalStore(folder))]


async def shown(page, item):
    await page.wait(f"document.getElementById('stage').dataset.item === '{item}'")


async def card(page, title):
    await page.wait(f"document.querySelector('#card[open] h2')?.innerText === {title!r}")


def test_twenty_images_by_keyboard_and_on_after_a_reload(root, browser):
    folder = root / "audit"
    write_audit(folder, [{"image_id": f"{number:02d}.png"} for number in range(NUM_HATS)], root=root)
    keys = [("y", 1), ("n", 0), ("u", None), ("n", 0)]
    expected = []

    async def scenario(page):
        await page.wait("document.querySelector('#name-dialog[open]') !== null")
        for letter in "ann":
            await page.press(letter)
        await page.press("Enter")
        await card(page, "hat")
        await page.press("Enter")
        for item in range(20):
            await shown(page, item)
            key, answer = keys[item % 4]
            await page.press(key)
            expected.append((item, answer, "ann"))
        await shown(page, 20)
        assert logged(folder) == expected
        assert await page.text("count") == "Image 21 of 25, 20 judged"
        assert "20/25" in await page.text("attributes")
        await page.reload()
        await shown(page, 20)  # the name is remembered, and there is no card in the midst of an attribute
        assert await page.text("who") == "ann"
        await page.press("y")
        await shown(page, 21)
        expected.append((20, 1, "ann"))
        # Back to what was judged before the reload: its answer is marked, and another one takes its place.
        for item in (20, 19):
            await page.press("b")
            await shown(page, item)
        assert await page.evaluate("document.querySelector('#answers [aria-pressed=true]').innerText.includes('no')")
        await page.press("y")
        expected.append((19, 1, "ann"))
        await shown(page, 20)
        await page.press("ArrowRight")
        for item in range(21, NUM_HATS):
            await shown(page, item)
            await page.press("n")
            expected.append((item, 0, "ann"))
        await card(page, "All done")
        assert "faceattr audit apply" in await page.text("card-more")

    look(folder, browser, scenario)
    assert logged(folder) == expected


def test_several_classes_bad_images_and_a_held_key(root, browser):
    folder = root / "audit"
    (root / "bad.jpg").write_bytes(b"<html>no image</html>")
    items = [
        {"image_id": "00.png", "attribute": "hair", "label": 2, "score": 0.625},
        {"image_id": "bad.jpg", "attribute": "hair"},
        {"image_id": "01.png", "attribute": "hair"},
        {"image_id": "02.png", "attribute": "shade"},
        {"image_id": "03.png", "attribute": "shade"},
    ]
    write_audit(folder, items, root=root, attributes=(HAIR, MANY))

    async def scenario(page):
        await card(page, "hair")
        assert await page.text("card-more") == "Keys: 1 black, 2 brown, 3 blond, u cannot tell."
        await page.press("y")  # in the card nothing is judged
        await page.press("Enter")
        await shown(page, 0)
        for key in ("4", "0", "y", "n", "x"):
            await page.press(key)
        assert "blond" not in await page.evaluate("document.getElementById('last').innerText")
        await page.press("2", times=8)
        await shown(page, 1)
        assert await page.evaluate("!document.getElementById('bad').hidden")
        assert await page.text("bad-reason") == "not_an_image"
        await page.press("1")  # nobody can see what this image shows
        await page.press("m")
        assert await page.text("last-mine") == "Last image: you said brown"
        assert await page.text("last-table") == "The model said blond, score 0.63. 00.png"
        await page.press("s")
        await shown(page, 2)
        await page.press("3")
        await card(page, "End of hair")
        assert await page.text("card-text") == "1 image has no answer yet."
        await page.press("Enter")
        await shown(page, 1)
        await page.press("u")
        await shown(page, 2)
        await page.press("ArrowRight")
        await card(page, "hair is done")
        await page.press("Enter")
        # More classes than digits: the number is typed, and Enter answers.
        await shown(page, 3)
        await page.press("1")
        await page.press("3")  # there is no class 13
        await page.press("2")
        assert await page.text("typed") == "12: shade 12. Enter answers, Backspace corrects."
        await page.press("Backspace")
        await page.press("1")
        await page.press("Enter")
        await shown(page, 4)
        await page.press("2")
        await page.press("Enter")
        await card(page, "All done")

    look(folder, browser, scenario, reviewer="bob")
    assert logged(folder) == [(0, 1, "bob"), (2, 2, "bob"), (1, None, "bob"), (3, 10, "bob"), (4, 1, "bob")]


def test_zoom_help_and_names_for_screen_readers(root, browser):
    folder = root / "audit"
    write_audit(folder, [{"image_id": f"{number:02d}.png"} for number in range(3)], root=root, attributes=(HAT,))

    async def scenario(page):
        await card(page, "hat")
        await page.press("Enter")
        await shown(page, 0)
        await page.press("z")
        await page.press("ArrowLeft")
        assert (
            await page.evaluate("document.getElementById('picture').style.transform") == "translate(15%, 0%) scale(2.5)"
        )
        await page.press("z")
        assert await page.evaluate("document.getElementById('picture').style.transform") == ""
        await page.press("?")
        await page.wait("document.querySelector('#help[open]') !== null")
        await page.press("y")
        assert "cannot tell" in (await page.text("help")).lower()
        await page.press("Escape")
        await page.wait("document.querySelector('#help[open]') === null")
        tree = (await page.send("Accessibility.getFullAXTree"))["nodes"]
        named = {
            (node["role"]["value"], node["name"]["value"])
            for node in tree
            if not node["ignored"] and node.get("name", {}).get("value")
        }
        assert ("image", "Image 1 of 3, to be judged for hat") in named
        assert {("button", "y yes"), ("button", "n no"), ("button", "u cannot tell"), ("group", "hat")} <= named
        assert {("navigation", "Attributes"), ("main", "The image to judge")} <= named
        unnamed = [
            node["role"]["value"]
            for node in tree
            if not node["ignored"]
            and node["role"]["value"] in {"button", "textbox", "image", "progressbar", "dialog"}
            and not node.get("name", {}).get("value")
        ]
        assert unnamed == []
        assert await page.text("said") == "hat, image 1 of 3"

    look(folder, browser, scenario, reviewer="ann")
    assert logged(folder) == []


def test_signing_in_and_an_answer_that_is_refused(root, browser):
    folder = root / "audit"
    write_audit(folder, [{"image_id": "00.png"}, {"image_id": "01.png"}], root=root)
    token = "correct-horse-battery"

    async def scenario(page):
        await page.wait("location.pathname === '/sign-in'")
        for letter in token:
            await page.press(letter)
        await page.press("Enter")
        await page.wait("location.pathname === '/' && document.querySelector('#card[open]') !== null")
        await page.press("Enter")
        await shown(page, 0)
        # As if another audit's server had the port by now: the answer is refused, and the page stays where it is.
        await page.evaluate("review.audit = 'another'")
        await page.press("y")
        await page.wait("!document.getElementById('trouble').hidden")
        assert (await page.text("trouble")).startswith("Not kept: this page shows another audit")
        assert await page.evaluate("document.getElementById('stage').dataset.item") == "0"
        page.errors.clear()  # the browser's console tells of the refusal

    look(folder, browser, scenario, token=token, reviewer="ann")
    assert logged(folder) == []
