"""Hair of the drawn faces, behind and on the head."""

import numpy as np

from faceattr.demo.drawing import Canvas, Part, Points, compute_ellipse, compute_smooth, mix, shade
from faceattr.demo.features import Look

# Styles that would stick out above a hat; with a hat they are drawn as short hair.
_TALL_STYLES = frozenset(["spiky", "curly", "afro", "bun"])
_LOOSE_STYLES = frozenset(["bob", "long"])


def draw_back_hair(canvas: Canvas, look: Look, rng: np.random.Generator, *, under_hat: bool) -> None:
    """Draws the hair behind the head; call it before the body is drawn."""
    width, style, colour = look.half_width, look.hair_style, shade(look.hair, 0.82)
    if style in _LOOSE_STYLES:
        low = rng.uniform(0.7, 1.0) if style == "bob" else rng.uniform(1.3, 1.9)
        wide = width * rng.uniform(1.18, 1.38)
        top = -0.9 if under_hat else -1.12
        half = [
            (0.0, top),
            (width * 0.9, top),
            (wide, -0.4),
            (wide * 1.03, low * 0.6),
            (wide * 0.92, low),
            (width * 0.55, low * 1.02),
        ]
        outline = half + [(-x, y) for x, y in reversed(half[1:])]
        canvas.polygon(compute_smooth(outline), colour, Part.HAIR)
    elif style == "afro":
        grow = rng.uniform(1.2, 1.5)
        if under_hat:
            for side in (-1, 1):
                canvas.polygon(compute_ellipse(side * width * 1.02, 0.0, 0.34 * grow, 0.46), colour, Part.HAIR)
        else:
            canvas.polygon(compute_ellipse(0.0, -0.3, width * grow, grow * 0.95, count=40), colour, Part.HAIR)
    elif style == "bun" and not under_hat:
        radius = rng.uniform(0.26, 0.4)
        canvas.polygon(compute_ellipse(rng.uniform(-0.2, 0.2), -1.12, radius, radius), colour, Part.HAIR)


def _crown(look: Look, grow: float, side_y: float) -> list[tuple[float, float]]:
    """Returns points over the skull, from its left side at `side_y` to the right."""
    start = np.arcsin(np.clip(-side_y / grow, -0.9, 0.9))
    angles = np.linspace(np.pi + start, 2 * np.pi - start, 14)
    wide = look.half_width * (0.35 + 0.65 * grow)
    return [(float(wide * np.cos(angle)), float(grow * np.sin(angle))) for angle in angles]


def _hairline(look: Look, style: str, rng: np.random.Generator, side_y: float) -> list[tuple[float, float]]:
    """Returns points along the forehead, from the right side to the left."""
    width = look.half_width
    line = rng.uniform(-0.68, -0.52)
    if style == "fringe":
        line = rng.uniform(-0.42, -0.3)
        return [
            (width * 0.9, side_y),
            (width * 0.86, line),
            (width * 0.4, line + 0.02),
            (0.0, line),
            (-width * 0.4, line + 0.02),
            (-width * 0.86, line),
            (-width * 0.9, side_y),
        ]
    if style == "side":
        turn = rng.choice([-1, 1])
        points = [
            (width * 0.9, side_y),
            (width * 0.8, line + 0.22),
            (width * 0.3, line + 0.14),
            (-width * 0.45, line - 0.16),
            (-width * 0.84, line + 0.16),
            (-width * 0.9, side_y),
        ]
        return points if turn > 0 else [(-x, y) for x, y in reversed(points)]
    if style in _LOOSE_STYLES:
        part = rng.uniform(-0.3, 0.3) * width
        return [
            (width * 0.98, side_y),
            (width * 0.8, -0.28),
            (width * 0.5, line + 0.1),
            (part, line - 0.22),
            (-width * 0.5, line + 0.1),
            (-width * 0.8, -0.28),
            (-width * 0.98, side_y),
        ]
    return [
        (width * 0.92, side_y),
        (width * 0.8, line + 0.16),
        (width * 0.45, line),
        (0.0, line - 0.04),
        (-width * 0.45, line),
        (-width * 0.8, line + 0.16),
        (-width * 0.92, side_y),
    ]


def draw_front_hair(canvas: Canvas, look: Look, rng: np.random.Generator, *, under_hat: bool) -> None:
    """Draws the hair on the head; call it after the face and before glasses and hat."""
    style = "short" if under_hat and look.hair_style in _TALL_STYLES else look.hair_style
    if style == "bald":
        if not under_hat:
            canvas.polygon(compute_ellipse(0.22, -0.72, 0.15, 0.07, angle=0.5), (255, 255, 255, 60))
        return
    if style == "receding":
        for side in (-1, 1):
            tuft = [
                (side * look.half_width * 1.06, 0.08),
                (side * look.half_width * 1.05, -0.4),
                (side * look.half_width * 0.82, -0.62),
                (side * look.half_width * 0.86, -0.2),
                (side * look.half_width * 0.94, 0.08),
            ]
            canvas.polygon(compute_smooth(tuft, rounds=2), look.hair, Part.HAIR)
        return
    grow = 1.0 if style == "buzz" else float(rng.uniform(1.05, 1.08 if under_hat else 1.16))
    side_y = float(rng.uniform(0.2, 0.5)) if style in _LOOSE_STYLES else float(rng.uniform(-0.2, 0.08))
    crown = _crown(look, grow, side_y)
    colour = mix(look.skin, look.hair, 0.62) if style == "buzz" else look.hair
    hairline = _hairline(look, style, rng, side_y)
    canvas.polygon(compute_smooth([*crown, *hairline], rounds=2), colour, Part.HAIR)
    if style in ("curly", "afro"):
        _draw_curls(canvas, look, rng, np.array(crown + hairline[1:-1]))
    elif style == "spiky":
        inner, outer = np.array(crown[2:-2]), np.array(crown[2:-2])
        outer = outer * (1.0, 1.0) + (0.0, -0.05)
        outer[1::2] *= rng.uniform(1.18, 1.35, (len(outer[1::2]), 1))
        canvas.polygon(np.concatenate([outer, inner[::-1] * 0.9]), colour, Part.HAIR)
    elif style != "buzz":
        # A few strands give the flat shape a direction.
        strand, bend = shade(look.hair, 1.22), rng.uniform(-0.2, 0.2)
        for x in rng.uniform(-0.6, 0.6, 3) * look.half_width:
            line = [(x, -1.0 * grow * 0.96), (x * 1.25 + bend * 0.3, -0.84), (x * 1.4 + bend, -0.72)]
            canvas.stroke(compute_smooth(line, closed=False, rounds=2), 0.025, (*strand, 150))


def _draw_curls(canvas: Canvas, look: Look, rng: np.random.Generator, around: Points) -> None:
    radius = rng.uniform(0.13, 0.2)
    for index, (x, y) in enumerate(around[::2]):
        colour = shade(look.hair, 1.0 if index % 2 else 1.12)
        canvas.polygon(compute_ellipse(x, y - 0.02, radius, radius, count=16), colour, Part.HAIR)
