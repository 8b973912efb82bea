"""Drawn faces with known attributes: the demo's images, and the training data of its tiny BLIP.

A face depends on one random generator only. Hat, glasses and facial hair are independent coin flips. People, hair,
expressions, distractors and image faults do not depend on them, so an answer can only be read from the thing itself.
"""

import contextlib
import csv
import functools
import multiprocessing
import pathlib
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from faceattr.demo.accessories import draw_facial_hair, draw_glasses, draw_hat
from faceattr.demo.drawing import Canvas
from faceattr.demo.features import SMILES, choose_look, draw_eyes, draw_head, draw_mouth, draw_nose
from faceattr.demo.hair import draw_back_hair, draw_front_hair
from faceattr.demo.surroundings import (
    draw_background,
    draw_body,
    draw_flower,
    draw_hair_band,
    draw_headphones,
    draw_scarf,
)

LABEL_NAMES = ("hat", "glasses", "facial_hair", "smiling")
_JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class DrawnFace:
    """A drawing and its true labels.

    Attributes:
        image: uint8 [size_px, size_px, 3], RGB.
        labels: 0 or 1 for each name in `LABEL_NAMES`.
        parts: uint8 [size_px, size_px], values of `faceattr.demo.drawing.Part`.
    """

    image: npt.NDArray[np.uint8]
    labels: dict[str, int]
    parts: npt.NDArray[np.uint8]


def build_face_rng(seed: int, index: int) -> np.random.Generator:
    """Returns the random generator of face `index` in series `seed`; all faces and series are independent."""
    return np.random.default_rng([seed, index])


def draw_face(rng: np.random.Generator, size_px: int = 160) -> DrawnFace:
    """Draws one face.

    Args:
        rng: source of all randomness; the same state gives the same face.
        size_px: side of the square image in px.
    """
    hat, glasses, facial_hair = (bool(flag) for flag in rng.random(3) < 0.5)
    look = choose_look(rng)
    canvas = Canvas(
        size_px,
        scale=rng.uniform(0.27, 0.335),
        centre=(0.5 + rng.uniform(-0.06, 0.06), 0.54 + rng.uniform(-0.05, 0.05)),
        angle=float(np.clip(rng.normal(0.0, 0.1), -0.3, 0.3)),
        squeeze=rng.uniform(0.93, 1.07),
    )
    headphones, hair_band, flower, scarf = rng.random(4) < (0.1, 0.14, 0.1, 0.15)
    draw_background(canvas, rng)
    draw_back_hair(canvas, look, rng, under_hat=hat)
    draw_body(canvas, look, rng)
    if scarf:
        draw_scarf(canvas, look, rng)
    draw_head(canvas, look, rng)
    if facial_hair:
        draw_facial_hair(canvas, look, rng)
    draw_mouth(canvas, look, rng)
    draw_nose(canvas, look, rng)
    draw_eyes(canvas, look, rng)
    draw_front_hair(canvas, look, rng, under_hat=hat)
    if hair_band and not hat:
        draw_hair_band(canvas, look, rng)
    if glasses:
        draw_glasses(canvas, look, rng)
    if hat:
        draw_hat(canvas, look, rng)
    if headphones:
        draw_headphones(canvas, look, rng)
    if flower:
        draw_flower(canvas, look, rng)
    image, parts = canvas.finish()
    labels = {
        "hat": int(hat),
        "glasses": int(glasses),
        "facial_hair": int(facial_hair),
        "smiling": int(look.mouth in SMILES),
    }
    return DrawnFace(image=_age_photo(image, rng), labels=labels, parts=parts)


def _age_photo(image: Image.Image, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Applies camera faults: blur, gray, colour cast, exposure, noise."""
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1) * image.width / 160))
    if rng.random() < 0.1:
        image = image.convert("L").convert("RGB")
    pixels = np.asarray(image, dtype=np.float32)
    if rng.random() < 0.5:
        gain = rng.uniform(0.85, 1.12) * rng.uniform(0.93, 1.07, 3)
        pixels = pixels * gain.astype(np.float32) + np.float32(rng.uniform(-14, 14))
    if rng.random() < 0.5:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32)
        pixels = pixels + noise * np.float32(rng.uniform(2.0, 9.0))
    return np.clip(pixels, 0.0, 255.0).astype(np.uint8)


def write_faces(
    directory: pathlib.Path | str, count: int, seed: int, *, size_px: int = 160, processes: int = 1
) -> pathlib.Path:
    """Draws `count` faces as `face-00000.jpg` and so on, and writes their labels.

    Args:
        directory: output folder; created if missing; files of the same names are replaced.
        count: number of faces.
        seed: series of faces; another seed gives other faces.
        size_px: side of the square images in px.
        processes: number of drawing processes; the faces do not depend on it.

    Returns:
        Path of `truth.csv`: `image_path` (relative to the directory) and one column of 0 and 1 per label.
    """
    folder = pathlib.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    truth_path = folder / "truth.csv"
    write = functools.partial(_write_face, folder, seed, size_px)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(truth_path.open("w", newline="", encoding="utf-8"))
        rows: Iterable[dict[str, str | int]] = map(write, range(count))
        if processes > 1:
            # Spawned: a fork would copy locks that other threads of the caller hold.
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(processes, mp_context=context))
            rows = pool.map(write, range(count), chunksize=32)
        writer = csv.DictWriter(file, fieldnames=["image_path", *LABEL_NAMES])
        writer.writeheader()
        writer.writerows(rows)
    return truth_path


def _write_face(folder: pathlib.Path, seed: int, size_px: int, index: int) -> dict[str, str | int]:
    """Draws one face into its file and returns its table row."""
    face = draw_face(build_face_rng(seed, index), size_px)
    name = f"face-{index:05d}.jpg"
    Image.fromarray(face.image).save(folder / name, quality=_JPEG_QUALITY)
    return {"image_path": name, **face.labels}
