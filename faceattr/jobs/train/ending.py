"""How a training's workers tell the driver that they have ended.

Ray Train's controller unpickles it on the way, so this module imports no more than it needs.
"""

from dataclasses import dataclass

from faceattr.errors import FaceattrError
from faceattr.training.loop.state import FitResult


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a worker ended: with a result, or with an error that a retry cannot fix."""

    result: FitResult | None = None
    error: FaceattrError | None = None
