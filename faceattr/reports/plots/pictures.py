"""Figures of matplotlib as bytes of a file, or inside a page."""

import base64
import io
from typing import Literal

import matplotlib.figure


def encode_picture(figure: matplotlib.figure.Figure, kind: Literal["png", "svg"], *, dots_per_inch: int = 110) -> bytes:
    """The bytes of a picture file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dots_per_inch)
    return buffer.getvalue()


def to_data_uri(figure: matplotlib.figure.Figure) -> str:
    """The figure as an SVG inside an address, for pages of one file."""
    return f"data:image/svg+xml;base64,{base64.b64encode(encode_picture(figure, 'svg')).decode()}"
