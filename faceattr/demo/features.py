"""Looks of the drawn faces: head, eyes, nose and mouth, independent of the labels."""

from dataclasses import dataclass

import numpy as np

from faceattr.demo.drawing import Canvas, Colour, Part, Points, compute_ellipse, compute_smooth, mix, shade

SKIN_TONES: tuple[Colour, ...] = (
    (255, 226, 205),
    (247, 208, 180),
    (236, 188, 150),
    (219, 166, 124),
    (196, 138, 96),
    (163, 108, 72),
    (128, 82, 54),
    (96, 62, 44),
)
NATURAL_HAIR: tuple[Colour, ...] = (
    (28, 24, 24),
    (58, 40, 30),
    (92, 60, 38),
    (134, 84, 48),
    (176, 84, 42),
    (206, 160, 88),
    (232, 204, 140),
)
GRAY_HAIR: tuple[Colour, ...] = ((150, 150, 152), (196, 196, 198), (232, 232, 230))
DYED_HAIR: tuple[Colour, ...] = ((214, 84, 140), (70, 110, 200), (60, 150, 120), (130, 80, 180), (200, 50, 50))
CLOTHES: tuple[Colour, ...] = (
    (200, 60, 60),
    (60, 110, 180),
    (60, 140, 90),
    (230, 180, 60),
    (120, 80, 150),
    (70, 74, 84),
    (238, 238, 232),
    (30, 32, 40),
    (240, 140, 90),
    (90, 180, 190),
)
HAIR_STYLES = ("bald", "receding", "buzz", "short", "side", "fringe", "spiky", "curly", "afro", "bob", "long", "bun")
_MOUTHS = ("smile", "grin", "flat", "frown", "open", "lips")
SMILES = frozenset(["smile", "grin"])


@dataclass(frozen=True, kw_only=True)
class Look:
    """One person: lengths in face coordinates, colours in RGB.

    Attributes:
        half_width: half width of the head; its half height is 1.
        jaw: how much the head narrows towards the chin, 0 to 1.
        skin: colour of the skin.
        hair: colour of hair and brows.
        hair_style: one of `HAIR_STYLES`.
        age: apparent age, from 0 (young) to 1 (old).
        eye_x: distance of the eyes from the vertical axis.
        eye_y: y coordinate of the eyes.
        mouth: one of the mouth shapes.
        mouth_y: y coordinate of the mouth.
        cloth: colour of the clothes.
    """

    half_width: float
    jaw: float
    skin: Colour
    hair: Colour
    hair_style: str
    age: float
    eye_x: float
    eye_y: float
    mouth: str
    mouth_y: float
    cloth: Colour


def pick(rng: np.random.Generator, colours: tuple[Colour, ...], *, spread: float = 12.0) -> Colour:
    """Returns one of the colours with a small random change."""
    colour = np.array(colours[rng.integers(len(colours))]) + rng.normal(0.0, spread, 3)
    return tuple(int(channel) for channel in np.clip(colour, 0, 255))


def choose_look(rng: np.random.Generator) -> Look:
    """Draws a person at random, independent of hat, glasses and facial hair."""
    age = float(rng.random())
    hair_choice = rng.random()
    if age > 0.7 and hair_choice < 0.6:
        hair = pick(rng, GRAY_HAIR, spread=6.0)
    else:
        hair = pick(rng, DYED_HAIR if hair_choice > 0.93 else NATURAL_HAIR, spread=7.0)
    half_width = float(rng.uniform(0.72, 0.88))
    # Half of the people smile, so that the label is balanced too.
    smiling = rng.random() < 0.5
    mouths = tuple(mouth for mouth in _MOUTHS if (mouth in SMILES) == smiling)
    return Look(
        half_width=half_width,
        jaw=float(rng.uniform(0.08, 0.3)),
        skin=pick(rng, SKIN_TONES, spread=5.0),
        hair=hair,
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        age=age,
        eye_x=half_width * float(rng.uniform(0.42, 0.5)),
        eye_y=float(rng.uniform(-0.12, 0.02)),
        mouth=mouths[rng.integers(len(mouths))],
        mouth_y=float(rng.uniform(0.52, 0.6)),
        cloth=pick(rng, CLOTHES),
    )


def compute_head(look: Look, grow: float = 1.0) -> Points:
    """Returns the head's outline, [48, 2], clockwise from the right, scaled by `grow`."""
    outline = compute_ellipse(0.0, 0.0, look.half_width, 1.0, power=2.25, count=48)
    outline[:, 0] *= 1.0 - look.jaw * np.clip(outline[:, 1], 0.0, 1.0) ** 2
    return outline * grow


def draw_head(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws ears and head, with a shadow on one side and signs of age."""
    ear_shade = shade(look.skin, 0.8)
    for side in (-1, 1):
        ear_x = side * look.half_width * 0.99
        canvas.polygon(compute_ellipse(ear_x, 0.08, 0.13, 0.21, angle=side * 0.15), look.skin, Part.SKIN)
        canvas.polygon(compute_ellipse(ear_x, 0.08, 0.06, 0.12, angle=side * 0.15), ear_shade)
    if rng.random() < 0.2:
        earring = pick(rng, ((230, 190, 70), (210, 210, 220), (200, 60, 90)))
        for side in (-1, 1):
            canvas.polygon(
                compute_ellipse(side * look.half_width * 1.04, 0.36, 0.055, 0.07, count=12), earring, Part.OTHER
            )
    outline = compute_head(look)
    canvas.polygon(outline, shade(look.skin, rng.uniform(0.82, 0.95)), Part.SKIN)
    # The lit part is the same outline, slightly smaller and moved to one side.
    canvas.polygon(outline * (0.94, 0.965) + (rng.choice([-1, 1]) * 0.045 * look.half_width, -0.02), look.skin)
    if rng.random() < 0.45:
        blush = (*mix(look.skin, (230, 90, 90), 0.6), 70)
        for side in (-1, 1):
            canvas.polygon(compute_ellipse(side * look.eye_x * 1.25, 0.28, 0.15, 0.1), blush)
    if rng.random() < 0.12:
        freckles = rng.normal((0.0, 0.2), (0.3, 0.08), (22, 2))
        canvas.dots(freckles, 0.022, (*shade(look.skin, 0.7), 170))
    if look.age > 0.6:
        wrinkle = (*shade(look.skin, 0.68), int(150 * look.age))
        for side in (-1, 1):
            fold = compute_smooth([(side * 0.2, 0.27), (side * 0.31, 0.4), (side * 0.34, 0.56)], closed=False, rounds=2)
            canvas.stroke(fold, 0.025, wrinkle)
            bag = compute_smooth(
                [
                    (side * (look.eye_x - 0.13), look.eye_y + 0.13),
                    (side * look.eye_x, look.eye_y + 0.2),
                    (side * (look.eye_x + 0.13), look.eye_y + 0.13),
                ],
                closed=False,
                rounds=2,
            )
            canvas.stroke(bag, 0.022, wrinkle)
        for height in (-0.5, -0.42):
            canvas.stroke(np.array([(-0.3, height), (0.0, height - 0.03), (0.3, height)]), 0.02, wrinkle)


def draw_eyes(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws eyes, open or closed, and brows."""
    radius_x, radius_y = rng.uniform(0.13, 0.18), rng.uniform(0.07, 0.12)
    iris = pick(rng, ((70, 44, 26), (50, 90, 150), (60, 120, 80), (40, 34, 30), (110, 120, 130)))
    gaze_x, gaze_y = rng.uniform(-0.045, 0.045), rng.uniform(-0.02, 0.02)
    closed, lashes = rng.random() < 0.08, rng.random() < 0.35
    shadow = (*pick(rng, ((150, 80, 150), (70, 100, 170), (120, 80, 60))), 110) if rng.random() < 0.15 else None
    lid = mix(look.skin, (40, 24, 20), 0.75)
    tilt, lift, thick = rng.uniform(-0.05, 0.07), rng.uniform(0.17, 0.25), rng.uniform(0.035, 0.08)
    for side in (-1, 1):
        x, y = side * look.eye_x, look.eye_y
        arc = compute_smooth(
            [
                (x - radius_x, y),
                (x - radius_x * 0.5, y - radius_y * 1.2),
                (x + radius_x * 0.5, y - radius_y * 1.2),
                (x + radius_x, y),
            ],
            closed=False,
            rounds=2,
        )
        if closed:
            canvas.stroke(arc * (1, -1) + (0, 2 * y), 0.04, lid, Part.FEATURE)
        else:
            if shadow:
                canvas.polygon(compute_ellipse(x, y - 0.04, radius_x * 1.2, radius_y * 1.4), shadow)
            canvas.polygon(compute_ellipse(x, y, radius_x, radius_y, count=24), (250, 250, 248), Part.FEATURE)
            canvas.polygon(compute_ellipse(x + gaze_x, y + gaze_y, radius_y * 0.85, radius_y * 0.85, count=20), iris)
            canvas.polygon(
                compute_ellipse(x + gaze_x, y + gaze_y, radius_y * 0.42, radius_y * 0.42, count=14), (16, 14, 16)
            )
            canvas.polygon(
                compute_ellipse(x + gaze_x + 0.025, y + gaze_y - 0.025, 0.02, 0.02, count=8), (255, 255, 255)
            )
            canvas.stroke(arc, 0.055 if lashes else 0.032, lid)
        brow = [
            (x - side * 0.17, y - lift),
            (x, y - lift - 0.06),
            (x + side * 0.19, y - lift + tilt),
        ]
        canvas.stroke(compute_smooth(brow, closed=False, rounds=2), thick, shade(look.hair, 0.8), Part.FEATURE)


def draw_nose(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws one of three noses."""
    dark, tip, wide = shade(look.skin, 0.76), rng.uniform(0.22, 0.3), rng.uniform(0.08, 0.14)
    style = rng.integers(3)
    if style == 0:
        line = [(-0.02, look.eye_y + 0.08), (wide * 0.9, tip - 0.05), (wide * 0.7, tip + 0.03), (-0.02, tip + 0.04)]
        canvas.stroke(compute_smooth(line, closed=False, rounds=2), 0.035, dark, Part.FEATURE)
    elif style == 1:
        canvas.polygon(
            compute_smooth([(0.0, look.eye_y + 0.1), (wide, tip), (0.0, tip + 0.07), (-wide, tip)], rounds=2),
            shade(look.skin, 0.88),
            Part.FEATURE,
        )
    else:
        line = [
            (-wide, tip - 0.03),
            (-wide * 0.7, tip + 0.04),
            (0.0, tip + 0.06),
            (wide * 0.7, tip + 0.04),
            (wide, tip - 0.03),
        ]
        canvas.stroke(compute_smooth(line, closed=False, rounds=2), 0.04, dark, Part.FEATURE)


def draw_mouth(canvas: Canvas, look: Look, rng: np.random.Generator) -> None:
    """Draws the mouth that `look` names, sometimes with lipstick."""
    y, half = look.mouth_y, rng.uniform(0.2, 0.3)
    lip = mix(look.skin, (176, 54, 60), rng.uniform(0.5, 0.75))
    if rng.random() < 0.15:
        lip = pick(rng, ((190, 24, 50), (150, 30, 80), (110, 20, 40)))
    dark = shade(lip, 0.6)
    bend = rng.uniform(0.09, 0.15)
    if look.mouth == "grin":
        shape = compute_smooth(
            [
                (-half, y - 0.05),
                (-half * 0.5, y + bend * 1.5),
                (half * 0.5, y + bend * 1.5),
                (half, y - 0.05),
                (0.0, y),
            ],
            rounds=2,
        )
        canvas.polygon(shape, dark, Part.FEATURE)
        teeth = compute_smooth(
            [
                (-half * 0.8, y - 0.015),
                (-half * 0.4, y + bend * 0.7),
                (half * 0.4, y + bend * 0.7),
                (half * 0.8, y - 0.015),
                (0.0, y + 0.02),
            ],
            rounds=2,
        )
        canvas.polygon(teeth, (252, 250, 246))
    elif look.mouth in ("smile", "frown"):
        sign = 1 if look.mouth == "smile" else -1
        line = [
            (-half, y - sign * bend * 0.6),
            (-half * 0.5, y + sign * bend),
            (half * 0.5, y + sign * bend),
            (half, y - sign * bend * 0.6),
        ]
        canvas.stroke(compute_smooth(line, closed=False, rounds=2), rng.uniform(0.04, 0.07), dark, Part.FEATURE)
    elif look.mouth == "flat":
        canvas.stroke(
            np.array([(-half * 0.85, y), (0.0, y + 0.012), (half * 0.85, y)]),
            rng.uniform(0.04, 0.06),
            dark,
            Part.FEATURE,
        )
    elif look.mouth == "open":
        canvas.polygon(compute_ellipse(0.0, y + 0.03, half * 0.5, rng.uniform(0.07, 0.13)), lip, Part.FEATURE)
        canvas.polygon(compute_ellipse(0.0, y + 0.03, half * 0.34, 0.06), shade(lip, 0.4))
    else:
        lips = [
            (-half * 0.85, y),
            (-0.07, y - 0.075),
            (0.0, y - 0.05),
            (0.07, y - 0.075),
            (half * 0.85, y),
            (0.0, y + 0.12),
        ]
        canvas.polygon(compute_smooth(lips, rounds=2), lip, Part.FEATURE)
        canvas.stroke(np.array([(-half * 0.7, y), (half * 0.7, y)]), 0.025, dark)
