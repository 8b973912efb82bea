"""A real browser, headless Chromium, driven by its own debugging protocol: what a person would see and press.

There is no driver in between: a WebSocket of JSON messages (Chrome DevTools Protocol) is all that it takes.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_DEADLINE_S = 60.0
# Keys whose name is not their text: (code, Windows virtual key).
_NAMED_KEYS = {
    "Enter": ("Enter", 13),
    "Backspace": ("Backspace", 8),
    "Escape": ("Escape", 27),
    "ArrowLeft": ("ArrowLeft", 37),
    "ArrowRight": ("ArrowRight", 39),
    "ArrowUp": ("ArrowUp", 38),
}


def find_browser() -> str | None:
    """The browser's program; None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def start_browser() -> Iterator[int]:
    """Starts a browser with an empty profile and gives the port of its protocol."""
    profile = Path(tempfile.mkdtemp(prefix="browser-"))
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]
    command = [str(find_browser()), *flags, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        # "DevTools listening on ws://127.0.0.1:PORT/devtools/browser/..."
        line = next(line for line in process.stderr if line.startswith("DevTools listening"))
        yield int(line.rpartition("/devtools")[0].rpartition(":")[2])
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(profile, ignore_errors=True)


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.errors: list[str] = []

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer; events are looked at for errors of the page."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = json.loads(await asyncio.wait_for(self._socket.receive_str(), _DEADLINE_S))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            if message.get("method") == "Log.entryAdded" and "status of 422" not in str(message):  # a bad image
                self.errors.append(str(message["params"]["entry"]))
            if message.get("id") == number:
                if "navigated" in str(message.get("error")):  # the page that was asked is gone: ask the next one
                    return await self.send(method, **params)
                assert "error" not in message, message
                return message["result"]

    async def evaluate(self, code: str) -> Any:
        """Value of an expression; promises are waited for."""
        found = await self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def wait(self, condition: str) -> None:
        """Waits until an expression is true."""
        # A page that is being loaded may lack what the condition looks at.
        look = f"let found = false; try {{ found = ({condition}); }} catch {{}} found ? done(1) : setTimeout(look, 5);"
        waiting = f"new Promise((done) => {{ const look = () => {{ {look} }}; look(); }})"
        await self.evaluate(waiting)

    async def reload(self) -> None:
        """Loads the page again, as F5 does, and waits until the old one is gone."""
        await self.evaluate("window.isOld = true")
        await self.send("Page.reload")
        await self.wait("window.isOld === undefined")

    async def text(self, element: str) -> str:
        """Visible text of the element with an id."""
        return await self.evaluate(f"document.getElementById({element!r}).innerText.trim()")

    async def go(self, address: str) -> None:
        """Opens an address."""
        await self.send("Page.navigate", url=address)
        await self.wait(f"location.href.startsWith({address!r}) && document.readyState === 'complete'")

    async def press(self, key: str, *, times: int = 1) -> None:
        """Presses a key; with `times`, holds it down so long that it repeats."""
        code, number = _NAMED_KEYS.get(key, ("", 0))
        if not code:
            is_letter = key.isalpha()
            code = f"Key{key.upper()}" if is_letter else f"Digit{key}" if key.isdigit() else ""
            number = ord(key.upper()) if key.isalnum() else 0
        text = {} if key in _NAMED_KEYS and key != "Enter" else {"text": "\r" if key == "Enter" else key}
        named = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        for place in range(times):
            await self.send("Input.dispatchKeyEvent", type="keyDown", autoRepeat=place > 0, **text, **named)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    async def size(self, width: int, height: int) -> None:
        """Sets the size of the window's inside, in CSS px."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.send("Emulation.setDeviceMetricsOverride", **size)

    async def picture(self, path: Path) -> None:
        """Saves what is seen, as PNG."""
        path.write_bytes(base64.b64decode((await self.send("Page.captureScreenshot"))["data"]))


@contextlib.asynccontextmanager
async def open_page(port: int, address: str) -> AsyncIterator[Page]:
    """Opens an address in a tab of its own, 1280 x 800."""
    async with aiohttp.ClientSession() as session:
        async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
            tab = await answer.json()
        async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Log"):
                await page.send(f"{domain}.enable")
            await page.size(1280, 800)
            await page.go(address)
            yield page
        async with session.get(f"http://127.0.0.1:{port}/json/close/{tab['id']}"):
            pass
