"""`faceattr audit review`: a page in the browser on which people judge an audit's images."""

import os
import webbrowser
from dataclasses import dataclass, field

import tyro

from faceattr.audit.review.access import Access, check_access
from faceattr.audit.review.pictures import ItemPictures
from faceattr.audit.review.server import build_server, run_server
from faceattr.audit.review.session import ReviewSession, check_reviewer
from faceattr.config import ImageLimitsConfig, StorageConfig
from faceattr.data.stores.addresses import local_path
from faceattr.errors import ConfigError
from faceattr.logs import say

_TOKEN_VARIABLE = "FACEATTR_REVIEW_TOKEN"  # noqa: S105 - the name of a variable, not a token


@dataclass(frozen=True, kw_only=True)
class AuditReview:
    """Opens a page in the browser: look at an image, press y, n or u. Every answer is kept before the next image."""

    folder: tyro.conf.Positional[str]
    """Audit folder on this machine, made by `faceattr audit sample`. The images may be anywhere that it names."""
    reviewer: str | None = None
    """Name under which answers are kept. Default: the page asks for it, so that several people can use one server."""
    host: str = "localhost"
    """Name or address to listen at. One that other machines can reach needs --token, and is not encrypted."""
    port: int = 8642
    """Port to listen at; 0 for any free one."""
    token: str | None = None
    """What reviewers enter before they see the page, 16 characters or more. Default: the environment variable
    FACEATTR_REVIEW_TOKEN, which other users of the machine cannot read from the list of processes."""
    browser: bool = True
    """Open the page, if this machine has a display."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    decode: ImageLimitsConfig = field(default_factory=ImageLimitsConfig)

    def __call__(self) -> int:
        """Serves the page until Ctrl-C."""
        token = self.token or os.environ.get(_TOKEN_VARIABLE)
        check_access(self.host, token)
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"--port {self.port}: expected 0 to 65535")
        reviewer = None if self.reviewer is None else check_reviewer(self.reviewer)
        session = ReviewSession(local_path(self.folder, "the audit folder"))
        pictures = ItemPictures(session.sample, session.store, self.storage, self.decode)
        server = build_server(session, pictures, Access(host=self.host, token=token), reviewer)
        run_server(server, self.host, self.port, self._announce)
        say(f"\n{session.count_judged():,} of {session.num_items:,} items are judged, in {session.log}")
        return 0

    def _announce(self, address: str) -> None:
        say(f"review at {address} (Ctrl-C ends it; answers are kept at once)")
        # A console browser would take over the terminal.
        if self.browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(address)
