"""Encodes matplotlib figures as files, or as data URIs for a page."""

import base64
import io
from typing import Literal

import matplotlib.figure


def encode_picture(figure: matplotlib.figure.Figure, kind: Literal["png", "svg"], *, dots_per_inch: int = 110) -> bytes:
    """Returns the bytes of a picture file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dots_per_inch)
    return buffer.getvalue()


def to_data_uri(figure: matplotlib.figure.Figure) -> str:
    """Returns the figure as an SVG data URI, for single-file pages."""
    return f"data:image/svg+xml;base64,{base64.b64encode(encode_picture(figure, 'svg')).decode()}"
