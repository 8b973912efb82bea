"""Accessories that the questions ask about: hats, glasses and facial hair."""

import numpy as np

from faceattr.demo.drawing import Canvas, Colour, Part, compute_ellipse, compute_smooth, mix, shade
from faceattr.demo.features import CLOTHES, Look, compute_head, pick

_HATS = ("cap", "side_cap", "beanie", "fedora", "bucket", "top_hat", "beret", "sun_hat")
_GLASSES = ("round", "square", "aviator", "cat_eye", "half_rim", "dark_round", "dark_square", "dark_aviator")
_FACIAL_HAIR = ("mustache", "goatee", "circle_beard", "full_beard", "stubble")
_FRAMES: tuple[Colour, ...] = (
    (24, 22, 24),
    (92, 54, 30),
    (168, 40, 44),
    (40, 60, 120),
    (150, 120, 50),
    (90, 96, 104),
    (235, 235, 235),
)
# Smallest RGB distance to the skin at which a thin frame or a beard can still be seen after blur and noise.
_LEAST_CONTRAST = 85.0


def _visible_on(colour: Colour, skin: Colour) -> Colour:
    """Darkens the colour, or else lightens it, until it differs from the skin: labels must be visible."""
    for factor in (1.0, 0.7, 0.5, 0.35, 0.2):
        candidate = shade(colour, factor)
        if np.linalg.norm(np.subtract(candidate, skin)) >= _LEAST_CONTRAST:
            return candidate
    return mix(colour, (255, 255, 255), 0.75)


def draw_hat(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws a random hat over the hair."""
    style = _HATS[rng.integers(len(_HATS))]
    colour, trim = pick(rng, CLOTHES, spread=16.0), pick(rng, CLOTHES, spread=16.0)
    dark = shade(colour, 0.78)
    line, wide = float(rng.uniform(-0.58, -0.42)), look.half_width * float(rng.uniform(1.12, 1.2))

    def dome(height: float, *, foot: float = line, shift: float = 0.0, power: float = 2.3) -> None:
        outline = compute_ellipse(shift, foot, wide, height, power=power, count=40)
        outline[:, 1] = np.minimum(outline[:, 1], foot + 0.06)
        canvas.polygon(outline, colour, Part.HAT)
        # The lit side, as on the head.
        lit = outline * (0.82, 0.9) + (shift * 0.18 - 0.05, foot * 0.1)
        canvas.polygon(lit, (*shade(colour, 1.12), 120))

    if style in ("cap", "side_cap"):
        dome(rng.uniform(0.66, 0.82))
        canvas.polygon(compute_ellipse(0.0, line - 0.75, 0.07, 0.05, count=12), trim, Part.HAT)
        if rng.random() < 0.6:
            canvas.polygon(compute_ellipse(0.0, line - 0.36, 0.19, 0.16, power=rng.choice([2.0, 5.0])), trim, Part.HAT)
        if style == "cap":
            visor = [
                (-wide * 0.95, line - 0.1),
                (-wide * 0.98, line + 0.16),
                (0.0, line + 0.3),
                (wide * 0.98, line + 0.16),
                (wide * 0.95, line - 0.1),
                (0.0, line + 0.04),
            ]
        else:
            side = rng.choice([-1, 1])
            visor = [
                (-side * wide * 0.6, line - 0.08),
                (side * wide, line - 0.14),
                (side * wide * 1.75, line + 0.06),
                (side * wide * 1.5, line + 0.18),
                (side * wide * 0.6, line + 0.12),
            ]
        canvas.polygon(compute_smooth(visor), trim if rng.random() < 0.5 else dark, Part.HAT)
    elif style == "beanie":
        dome(rng.uniform(0.72, 0.95), foot=line + 0.05, power=2.0)
        if rng.random() < 0.5:
            canvas.polygon(compute_ellipse(0.0, line - 0.9, 0.2, 0.19, count=20), trim, Part.HAT)
        rim = compute_ellipse(0.0, line + 0.02, wide * 1.04, 0.16, power=5.0)
        canvas.polygon(rim, trim if rng.random() < 0.5 else dark, Part.HAT)
        for x in np.linspace(-0.85, 0.85, 8) * wide:
            canvas.stroke(np.array([(x, line - 0.12), (x, line + 0.15)]), 0.025, (*shade(dark, 0.8), 140))
    elif style == "beret":
        side = rng.choice([-1, 1])
        canvas.polygon(
            compute_ellipse(side * 0.18, line - 0.26, wide * 1.22, 0.44, angle=side * -0.16, power=2.4),
            colour,
            Part.HAT,
        )
        canvas.polygon(
            compute_ellipse(side * 0.12, line - 0.34, wide * 0.85, 0.24, angle=side * -0.16),
            (*shade(colour, 1.15), 110),
        )
        canvas.polygon(compute_ellipse(0.0, line + 0.02, wide * 0.94, 0.09, power=4.0), dark, Part.HAT)
        canvas.stroke(np.array([(side * 0.2, line - 0.66), (side * 0.24, line - 0.8)]), 0.05, dark, Part.HAT)
    else:
        _draw_brimmed_hat(canvas, rng, style, colour=colour, trim=trim, line=line, wide=wide)


def _draw_brimmed_hat(
    canvas: Canvas, rng: np.random.Generator, style: str, *, colour: Colour, trim: Colour, line: float, wide: float
) -> None:
    height, narrow, brim, thick = {
        "fedora": (0.72, 0.78, 1.6, 0.13),
        "bucket": (0.55, 0.8, 1.32, 0.26),
        "top_hat": (1.05, 1.02, 1.45, 0.11),
        "sun_hat": (0.58, 0.8, 1.95, 0.24),
    }[style]
    height, brim = height * rng.uniform(0.9, 1.12), brim * rng.uniform(0.92, 1.06)
    dark = shade(colour, 0.78)
    canvas.polygon(compute_ellipse(0.0, line, wide * brim, thick, count=40), dark, Part.HAT)
    top = line - height
    crown = [
        (-wide, line + 0.05),
        (-wide * 0.99, line - 0.2),
        (-wide * narrow, top),
        (0.0, top + (0.12 if style == "fedora" else -0.03)),
        (wide * narrow, top),
        (wide * 0.99, line - 0.2),
        (wide, line + 0.05),
    ]
    canvas.polygon(compute_smooth(crown, rounds=1 if style == "top_hat" else 3), colour, Part.HAT)
    canvas.polygon(compute_smooth(np.array(crown) * (0.5, 0.8) + (-0.14, line * 0.2)), (*shade(colour, 1.15), 90))
    band = [
        (-wide * 1.0, line + 0.02),
        (-wide * 0.97, line - 0.19),
        (wide * 0.97, line - 0.19),
        (wide * 1.0, line + 0.02),
    ]
    canvas.polygon(np.array(band), trim, Part.HAT)
    # The front of the brim is in front of the crown.
    front = compute_ellipse(0.0, line, wide * brim, thick, count=40)
    front = front[front[:, 1] >= line - 1e-9]
    canvas.polygon(
        np.concatenate([front, [(-wide * 0.7, line + thick * 0.25), (wide * 0.7, line + thick * 0.25)]]),
        shade(colour, 0.92),
        Part.HAT,
    )


def draw_glasses(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws random glasses over eyes and hair."""
    style = _GLASSES[rng.integers(len(_GLASSES))]
    frame = _visible_on(pick(rng, _FRAMES, spread=8.0), look.skin)
    thick = float(rng.uniform(0.04, 0.085))
    radius_x = min(float(rng.uniform(0.23, 0.3)), look.eye_x * 0.92)
    radius_y = float(rng.uniform(0.17, 0.24))
    y = look.eye_y + 0.03
    shape = style.removeprefix("dark_")
    if style.startswith("dark_"):
        tint = pick(rng, ((20, 20, 26), (50, 34, 24), (26, 44, 60), (44, 20, 30)), spread=5.0)
        lens: Colour = (*tint, int(rng.integers(205, 256)))
    else:
        lens = (*pick(rng, ((235, 245, 255), (200, 220, 240), (250, 240, 200))), int(rng.integers(30, 100)))
    for side in (-1, 1):
        x = side * look.eye_x
        if shape == "round":
            outline = compute_ellipse(x, y, (radius_x + radius_y) / 2, (radius_x + radius_y) / 2)
        elif shape in ("square", "half_rim"):
            outline = compute_ellipse(x, y, radius_x, radius_y * 0.9, power=5.0)
        elif shape == "aviator":
            drop = [
                (x - side * radius_x, y - radius_y * 0.9),
                (x + side * radius_x * 1.1, y - radius_y * 0.95),
                (x + side * radius_x * 1.1, y + radius_y * 0.4),
                (x + side * radius_x * 0.3, y + radius_y * 1.35),
                (x - side * radius_x * 0.8, y + radius_y * 0.9),
            ]
            outline = compute_smooth(drop)
        else:
            cat = [
                (x - side * radius_x, y - radius_y * 0.7),
                (x + side * radius_x * 1.35, y - radius_y * 1.3),
                (x + side * radius_x * 1.1, y + radius_y * 0.6),
                (x, y + radius_y * 1.1),
                (x - side * radius_x * 1.05, y + radius_y * 0.6),
            ]
            outline = compute_smooth(cat)
        # In the part map the wearer's lens is glasses, whether or not an eye is behind it.
        canvas.polygon(outline, lens, Part.GLASSES)
        rim = np.concatenate([outline, outline[:2]])
        if shape == "half_rim":
            upper = outline[outline[:, 1] <= y + 0.02]
            canvas.stroke(upper[np.argsort(upper[:, 0])], thick * 1.2, frame, Part.GLASSES)
            canvas.stroke(rim, 0.02, frame, Part.GLASSES)
        else:
            canvas.stroke(rim, thick, frame, Part.GLASSES)
        temple = np.array([(x + side * radius_x, y - 0.06), (side * look.half_width * 1.0, y - 0.05)])
        canvas.stroke(temple, thick, frame, Part.GLASSES)
        if rng.random() < 0.5:
            glare = np.array([(x - 0.1, y + 0.06), (x + 0.02, y - 0.1)])
            canvas.stroke(glare, 0.03, (255, 255, 255, 150))
    inner = look.eye_x - radius_x * 0.9
    bridge = compute_smooth([(-inner, y - 0.03), (0.0, y - 0.1), (inner, y - 0.03)], closed=False, rounds=2)
    canvas.stroke(bridge, thick, frame, Part.GLASSES)


def draw_facial_hair(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws a random style on the skin, below the mouth, which is drawn later."""
    style = _FACIAL_HAIR[rng.integers(len(_FACIAL_HAIR))]
    colour = _visible_on(shade(look.hair, rng.uniform(0.75, 1.05)), look.skin)
    lip = look.mouth_y - 0.1
    if style == "stubble":
        share = rng.uniform(0.4, 0.6)
        _draw_beard(
            canvas,
            look,
            rng,
            mix(look.skin, colour, share),
            low=1.0,
            texture=mix(look.skin, colour, min(1.0, share + 0.35)),
        )
        return
    if style == "full_beard":
        _draw_beard(canvas, look, rng, colour, low=float(rng.uniform(1.04, 1.4)), texture=shade(colour, 0.75))
    if style in ("goatee", "circle_beard"):
        half, foot = rng.uniform(0.2, 0.3), rng.uniform(1.02, 1.25)
        top = look.mouth_y + 0.13 if style == "goatee" else lip
        wide = half if style == "goatee" else max(half, 0.34)
        chin = [
            (-wide, top),
            (-wide * 1.02, look.mouth_y + 0.2),
            (-half * 0.8, foot - 0.06),
            (0.0, foot),
            (half * 0.8, foot - 0.06),
            (wide * 1.02, look.mouth_y + 0.2),
            (wide, top),
        ]
        canvas.polygon(compute_smooth(chin), colour, Part.FACIAL_HAIR)
    if style == "circle_beard":
        # Skin shows around the mouth, inside the ring.
        canvas.polygon(compute_ellipse(0.0, look.mouth_y + 0.03, 0.25, 0.13), look.skin, Part.SKIN)
    if style in ("mustache", "circle_beard") or (style == "goatee" and rng.random() < 0.4):
        _draw_mustache(canvas, rng, colour, lip=lip)


def _draw_mustache(canvas: Canvas, rng: np.random.Generator, colour: Colour, *, lip: float) -> None:
    half, thick = rng.uniform(0.27, 0.42), rng.uniform(0.08, 0.13)
    droop = rng.uniform(-0.1, 0.16)
    for side in (-1, 1):
        leaf = [
            (0.0, lip - thick),
            (side * half * 0.5, lip - thick * 0.9),
            (side * half * 1.1, lip + droop),
            (side * half * 0.7, lip + thick * 0.8 + max(droop, 0.0) * 0.5),
            (0.0, lip + thick * 0.7),
        ]
        canvas.polygon(compute_smooth(leaf, rounds=2), colour, Part.FACIAL_HAIR)
    canvas.stroke(np.array([(-half * 0.5, lip), (-half * 0.15, lip - thick * 0.3)]), 0.02, (*shade(colour, 1.25), 130))
    canvas.stroke(np.array([(half * 0.5, lip), (half * 0.15, lip - thick * 0.3)]), 0.02, (*shade(colour, 1.25), 130))


def _draw_beard(
    canvas: Canvas, look: Look, rng: np.random.Generator, colour: Colour, *, low: float, texture: Colour
) -> None:
    outline = compute_head(look, 1.0)
    # From the right side around the chin to the left: the outline's points start at the right and go down.
    jaw = outline[1:24].copy()
    chin = np.clip(jaw[:, 1], 0.0, 1.0) ** 2
    jaw[:, 1] *= 1.0 + (low - 1.0) * chin
    jaw[:, 0] *= 1.0 + 0.06 * (low > 1.0)
    cheek, side, lip = rng.uniform(0.28, 0.42), look.half_width, look.mouth_y - rng.uniform(0.13, 0.19)
    line = [
        (-side * 0.86, cheek - 0.2),
        (-side * 0.68, cheek + 0.16),
        (-0.32, lip + 0.04),
        (-0.12, lip),
        (0.12, lip),
        (0.32, lip + 0.04),
        (side * 0.68, cheek + 0.16),
        (side * 0.86, cheek - 0.2),
    ]
    canvas.polygon(np.concatenate([jaw, compute_smooth(line, closed=False, rounds=2)]), colour, Part.FACIAL_HAIR)
    spots = rng.uniform((-side * 0.6, look.mouth_y - 0.05), (side * 0.6, 0.92), (40, 2))
    canvas.dots(spots, 0.025, (*texture, 150))
    if low > 1.0:
        canvas.polygon(compute_ellipse(0.0, look.mouth_y + 0.03, 0.24, 0.1), mix(colour, look.skin, 0.55), Part.SKIN)
