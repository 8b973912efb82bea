"""What the label benchmarks share: images, and the label pipeline as a user starts it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import simplejpeg

ROOT = Path(__file__).parents[2]
SMALL = {"image": 32, "patch": 8, "width": 48, "layers": 2, "heads": 4, "text_layers": 1, "text_heads": 2}


def make_images(folder: Path, count: int, size_px: int = 224) -> Path:
    """JPEGs of a face's usual size; 200 different ones, since making them would take longer than labelling."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(min(count, 200)):
        coarse = rng.integers(0, 256, (size_px // 16, size_px // 16, 3), np.uint8)
        encoded.append(simplejpeg.encode_jpeg(np.kron(coarse, np.ones((16, 16, 1), np.uint8)), quality=85))
    for number in range(count):
        (folder / f"{number:06d}.jpg").write_bytes(encoded[number % len(encoded)])
    return folder


def start_label(images: Path, output: Path, model: Path, *flags: str) -> subprocess.Popen[bytes]:
    """The label pipeline as a user starts it."""
    script = str(ROOT / "pipelines" / "label.py")
    command = [sys.executable, script, "--images", str(images), "--output", str(output), "--model", str(model)]
    command += ["--ray.no-dashboard", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(output.parent / "label.log").open("ab"))


def finish(process: subprocess.Popen[bytes], output: Path) -> None:
    if process.wait():
        sys.exit((output.parent / "label.log").read_text()[-3000:])
