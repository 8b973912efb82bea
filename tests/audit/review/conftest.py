from pathlib import Path

import pytest

from tests.audit.audits import HAIR, HAT, write_audit
from tests.audit.review.servers import encode_colour


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Three items of `hat`, one of `hair`; the second image is cut off, the last is missing."""
    root = tmp_path / "images"
    root.mkdir()
    (root / "hat_yes.jpg").write_bytes(encode_colour("red", orientation=6))
    (root / "cut.jpg").write_bytes(encode_colour("blue")[:300])
    (root / "c.png").write_bytes(encode_colour("lime", kind="PNG"))
    items = [
        {"image_id": "hat_yes.jpg", "score": 0.75, "label": 1},
        {"image_id": "cut.jpg"},
        {"image_id": "c.png", "label": None, "score": None},
        {"image_id": "gone.jpg", "attribute": "hair", "label": 2, "score": 0.5},
    ]
    write_audit(tmp_path / "audit", items, root=root, attributes=(HAT, HAIR))
    return tmp_path / "audit"
