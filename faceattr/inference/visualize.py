"""Draws predictions on pictures with Pillow: a panel below one face, boxes and tags for several."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from faceattr.errors import ConfigError, escape
from faceattr.inference.detect import Face
from faceattr.inference.prediction import AttributePrediction, Prediction

_PAPER, _INK, _YES, _NO = (250, 250, 248), (28, 37, 48), (47, 109, 179), (190, 197, 205)
_BOXES = ((217, 119, 43), (47, 109, 179), (62, 142, 90), (150, 84, 168), (190, 60, 70))
# Smaller pictures are enlarged, so that the text is readable.
_MIN_WIDTH_PX = 360
# Larger pictures are downscaled, so that the drawing has a bounded size.
_MAX_SIDE_PX = 4_096
_FONT_PX = 14, 64


def draw_prediction(image: np.ndarray, prediction: Prediction, *, confidence: bool = True) -> Image.Image:
    """Draws a face above one line per attribute, with a bar for its confidence.

    Args:
        image: RGB uint8 [H, W, 3]; pictures with a side over 4,096 px are downscaled.
        prediction: prediction to draw.
        confidence: whether to draw bars and percentages.
    """
    picture = _fit(Image.fromarray(image), enlarge=True)
    size = int(np.clip(picture.width // 28, *_FONT_PX))
    font, line = ImageFont.load_default(size), round(size * 1.6)
    lines = [(_title(name), _value(each, confidence), each) for name, each in prediction.attributes.items()]
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    name_width = max((measure.textlength(name, font) for name, _, _ in lines), default=0) + 2 * size
    value_width = max((measure.textlength(value, font) for _, value, _ in lines), default=0) + size
    width = max(picture.width, _MIN_WIDTH_PX, min(_MAX_SIDE_PX, math.ceil(name_width + value_width)))
    canvas = Image.new("RGB", (width, picture.height + line * len(lines) + size), _PAPER)
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    for place, (name, value, each) in enumerate(lines):
        y = picture.height + size // 2 + place * line
        draw.text((size // 2, y), name, _INK, font)
        if confidence and each.confidence is not None:
            bar = max(0.0, (width - name_width - size) * each.confidence)
            colour = _NO if each.label == "no" else _YES
            draw.rectangle((name_width, y + size * 1.15, name_width + bar, y + size * 1.3), colour)
        draw.text((name_width, y), value, _INK, font)
    return canvas


@dataclass(frozen=True)
class FoundFace:
    """A face of a picture and its prediction."""

    face: Face
    prediction: Prediction


def draw_faces(image: np.ndarray, found: Sequence[FoundFace], *, confidence: bool = True) -> Image.Image:
    """Draws boxes around the faces and tags next to them, such as "Hat 97.3%".

    Absent binary attributes have no tag; other attributes show their class.

    Args:
        image: RGB uint8 [H, W, 3]; pictures with a side over 4,096 px are downscaled.
        found: faces with boxes in px of this image.
        confidence: whether to draw percentages.
    """
    whole = Image.fromarray(image)
    picture = _fit(whole, enlarge=False)
    draw = ImageDraw.Draw(picture, "RGBA")
    boxes = [_scale_box(each.face, whole.size, picture.size) for each in found]
    placed: list[_Box] = []
    for place, (each, box) in enumerate(zip(found, boxes, strict=True)):
        colour = _BOXES[place % len(_BOXES)]
        size = int(np.clip((box[2] - box[0]) // 12, 11, max(12, min(picture.width // 50, _FONT_PX[1]))))
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=colour, width=max(2, size // 6))
        tags = _tags(each.prediction, confidence)
        if not tags:
            continue
        font, height = ImageFont.load_default(size), round(size * 1.35)
        width = round(max(draw.textlength(tag, font) for tag in tags)) + size // 2
        left, top, right, bottom = _find_room(box, (width, height * len(tags)), picture.size, boxes, placed)
        placed.append((left, top, right, bottom))
        draw.rectangle((left, top, right - 1, bottom - 1), (*colour, 215))
        for line, tag in enumerate(tags):
            draw.text((left + size // 4, top + line * height + size * 0.1), tag, (255, 255, 255), font)
    return picture


_Box = tuple[int, int, int, int]


def _scale_box(face: Face, whole: tuple[int, int], drawn: tuple[int, int]) -> _Box:
    """Scales a box to px of the drawn picture; it stays at least one px wide and high."""
    x, y = drawn[0] / whole[0], drawn[1] / whole[1]
    left, top = min(int(face.left * x), drawn[0] - 1), min(int(face.top * y), drawn[1] - 1)
    return left, top, max(left + 1, round(face.right * x)), max(top + 1, round(face.bottom * y))


def _find_room(
    box: _Box, size: tuple[int, int], picture: tuple[int, int], faces: Sequence[_Box], placed: Sequence[_Box]
) -> _Box:
    """Returns where the tags of a box cover least: below, above, beside it, or in its lower corners.

    The position is inside the picture.
    """
    left, top, right, bottom = box
    width, height = size
    corners = (
        (left, bottom),
        (left, top - height),
        (right, top),
        (left - width, top),
        (left, bottom - height),
        (right - width, bottom - height),
    )

    def inside(corner: tuple[int, int]) -> _Box:
        x = max(0, min(corner[0], picture[0] - width))
        y = max(0, min(corner[1], picture[1] - height))
        return x, y, x + width, y + height

    def hidden(room: _Box) -> int:
        return sum(_shared(room, face) for face in faces) + 4 * sum(_shared(room, other) for other in placed)

    return min((inside(corner) for corner in corners), key=hidden)


def _shared(one: _Box, other: _Box) -> int:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Saves a JPEG or PNG, by its suffix, and creates missing folders.

    Raises:
        ConfigError: the suffix is another, or the file cannot be written.
    """
    if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise ConfigError(f"{path}: pictures are written as .jpg or .png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=92) if path.suffix.lower() != ".png" else picture.save(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def _tags(prediction: Prediction, confidence: bool) -> list[str]:
    tags = []
    for name, each in prediction.attributes.items():
        if each.label == "no":
            continue
        share = f" {each.confidence:.1%}" if confidence and each.confidence is not None else ""
        match each.label:
            case "yes":
                tags.append(f"{_title(name)}{share}")
            case float() as years:
                tags.append(f"{_title(name)} {years:.0f}")
            case label:
                tags.append(f"{escape(label)}{share}")
    return tags


def _title(name: str) -> str:
    return escape(name.replace("_", " ").capitalize())


def _value(each: AttributePrediction, confidence: bool) -> str:
    label = f"{each.label:.0f}" if isinstance(each.label, float) else escape(each.label)
    share = f"  {each.confidence:.1%}" if confidence and each.confidence is not None else ""
    return f"{label}{share}"


def _fit(picture: Image.Image, *, enlarge: bool) -> Image.Image:
    """Resizes a picture for drawing: no side over the limit, and if possible wide enough for text."""
    longest = max(picture.size)
    factor = min(1.0, _MAX_SIDE_PX / longest)
    if enlarge and picture.width < _MIN_WIDTH_PX:
        factor = min(_MIN_WIDTH_PX / picture.width, _MAX_SIDE_PX / longest)
    if factor == 1:
        return picture
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)
