"""Background, clothes and distractors: things that could be mistaken for a hat or a beard."""

import numpy as np
from PIL import Image

from faceattr.demo.drawing import Canvas, Part, compute_ellipse, compute_smooth, mix, shade
from faceattr.demo.features import CLOTHES, Look, pick


def draw_background(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draws a soft gradient, sometimes with discs that could be mistaken for a hat or a halo."""
    # Muted: one brightness for all three channels with little colour added.
    base = rng.uniform(80, 225) + rng.normal(0, 22, 3)
    corners = np.clip(base + rng.normal(0, 14, (2, 2, 3)), 0, 255).astype(np.uint8)
    canvas.paint_background(Image.fromarray(corners))
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 5)):
            x, y = rng.uniform(-1.7, 1.7), rng.uniform(-1.7, 1.7)
            colour = tuple(int(channel) for channel in np.clip(base + rng.normal(0, 32, 3), 0, 255))
            radius = rng.uniform(0.15, 0.8)
            power = float(rng.choice([2.0, 6.0]))
            canvas.polygon(compute_ellipse(x, y, radius, radius * rng.uniform(0.5, 1.3), power=power), colour)


def draw_body(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws neck and shoulders with one of three collars."""
    width = look.half_width
    neck = width * rng.uniform(0.42, 0.6)
    shoulder = rng.uniform(1.3, 1.75)
    torso = compute_smooth(
        [(-shoulder, 2.6), (-shoulder, 1.75), (-neck * 1.2, 1.3), (neck * 1.2, 1.3), (shoulder, 1.75), (shoulder, 2.6)]
    )
    canvas.polygon(torso, look.cloth, Part.BODY)
    neck_line = np.array([(-neck, 0.6), (-neck * 1.06, 1.35), (0.0, 1.55), (neck * 1.06, 1.35), (neck, 0.6)])
    canvas.polygon(neck_line, shade(look.skin, 0.88), Part.SKIN)
    collar = rng.integers(3)
    trim = shade(look.cloth, 0.75)
    if collar == 0:
        canvas.stroke(neck_line[1:4], 0.09, trim)
    elif collar == 1:
        for side in (-1, 1):
            flap = np.array([(0.0, 1.62), (side * neck * 1.1, 1.28), (side * neck * 1.75, 1.5), (side * neck, 1.85)])
            canvas.polygon(flap, mix(look.cloth, (255, 255, 255), 0.45), Part.BODY)


def draw_headphones(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws headphones: a bow over the head and two cups."""
    colour, wide = pick(rng, CLOTHES), look.half_width * 1.13
    angles = np.linspace(np.pi, 2 * np.pi, 22)
    bow = np.stack([wide * np.cos(angles), 1.2 * np.sin(angles)], axis=1)
    canvas.stroke(bow, rng.uniform(0.07, 0.13), colour, Part.OTHER)
    for side in (-1, 1):
        canvas.polygon(compute_ellipse(side * wide, 0.08, 0.15, 0.25, power=3.0), shade(colour, 0.8), Part.OTHER)


def draw_hair_band(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws a band across the hair, sometimes with a bow."""
    colour, height, wide = pick(rng, CLOTHES), rng.uniform(-0.86, -0.68), look.half_width
    band = compute_smooth(
        [
            (-wide * 0.95, height + 0.34),
            (-wide * 0.55, height - 0.08),
            (wide * 0.55, height - 0.08),
            (wide * 0.95, height + 0.34),
        ],
        closed=False,
    )
    canvas.stroke(band, rng.uniform(0.08, 0.14), colour, Part.OTHER)
    if rng.random() < 0.4:
        x = rng.uniform(-0.4, 0.4)
        for side in (-1, 1):
            canvas.polygon(
                np.array([(x, height - 0.02), (x + side * 0.22, height - 0.16), (x + side * 0.22, height + 0.12)]),
                shade(colour, 0.85),
                Part.OTHER,
            )


def draw_flower(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws a flower above one ear."""
    colour, side = pick(rng, ((240, 120, 150), (250, 220, 90), (250, 250, 250), (180, 120, 220))), rng.choice([-1, 1])
    x, y = side * look.half_width * 0.92, rng.uniform(-0.5, -0.3)
    for angle in np.arange(5) * (2 * np.pi / 5):
        canvas.polygon(
            compute_ellipse(x + 0.11 * np.cos(angle), y + 0.11 * np.sin(angle), 0.09, 0.09, count=14),
            colour,
            Part.OTHER,
        )
    canvas.polygon(compute_ellipse(x, y, 0.07, 0.07, count=12), (230, 170, 50), Part.OTHER)


def draw_scarf(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws a scarf around the neck, below the chin."""
    colour = pick(rng, CLOTHES, spread=16.0)
    wide = look.half_width * rng.uniform(0.85, 1.05)
    canvas.polygon(compute_ellipse(0.0, 1.3, wide, 0.3, power=3.0), colour, Part.OTHER)
    canvas.stroke(
        compute_smooth([(-wide * 0.8, 1.2), (0.0, 1.4), (wide * 0.8, 1.25)], closed=False), 0.05, shade(colour, 0.8)
    )
