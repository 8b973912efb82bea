"""Review servers for tests, in this process and as the command that a user starts, and pictures for them."""

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
from aiohttp import web
from PIL import Image

from faceattr.audit.review.access import Access
from faceattr.audit.review.pictures import ItemPictures
from faceattr.audit.review.server import build_server
from faceattr.audit.review.session import ReviewSession
from faceattr.config import ImageLimitsConfig, StorageConfig

ROOT = Path(__file__).parents[3]
_CODE = "import sys; from faceattr.cli import main; sys.exit(main(sys.argv[1:]))"


@contextlib.asynccontextmanager
async def serve_audit(folder: Path, *, token: str | None = None, reviewer: str | None = None) -> AsyncIterator[str]:
    """Serves an audit folder on a free port of 127.0.0.1 and gives the address, without a slash at the end."""
    session = ReviewSession(folder)
    pictures = ItemPictures(session.sample, session.store, StorageConfig(), ImageLimitsConfig())
    runner = build_server(session, pictures, Access(host="localhost", token=token), reviewer)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def run_review(folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`faceattr audit review` as a process of its own, with its address; killed at the end unless it has ended."""
    command = [sys.executable, "-c", _CODE, "audit", "review", str(folder), "--port", "0", "--no-browser", *flags]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("review at http://"), line
        yield process, line.split()[2].rstrip("/")
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def encode_colour(colour: str, *, size: tuple[int, int] = (40, 20), orientation: int = 1, kind: str = "JPEG") -> bytes:
    """A picture whose left half is of the colour and whose right half is black."""
    picture = Image.new("RGB", size, "black")
    picture.paste(colour, (0, 0, size[0] // 2, size[1]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    picture.save(stream, kind, exif=exif.tobytes())
    return stream.getvalue()


def ask(folder, scenario, **options):
    """Runs `scenario(client)` against a server; the client's addresses are relative, and its POSTs say their origin."""

    async def run():
        async with serve_audit(folder, **options) as address, aiohttp.ClientSession(address) as client:
            return await scenario(client, {"Origin": address})

    return asyncio.run(run())
