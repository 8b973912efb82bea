"""Labels of the tiny BLIP on drawn faces in scenes: of the whole picture, of the cropped and of the aligned face.

A scene is a larger picture with one drawn face, turned by up to --turn degrees, among other shapes. Truth
is what was drawn. The detector is that of the extra `faces`; where it finds nothing, the whole picture is labelled.

    python tests/benchmarks/bench_faces.py --scenes 300 --turn 0
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.metrics import f1_score

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.data.images.face_view import FaceView
from faceattr.demo.faces import LABEL_NAMES, DrawnFace, build_face_rng, draw_face
from faceattr.inference.faces import FaceFinder
from faceattr.vqa.blip.checkpoint import load_blip
from faceattr.vqa.blip.preprocess import resize_rgb
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.checkpoints import resolve_checkpoint
from faceattr.vqa.question_files import load_question_set

SERIES = 70_001
WIDTH, HEIGHT, FACE = 640, 480, 240
ASKED = LABEL_NAMES[:3]


def draw_scene(index: int, most_degrees: float) -> tuple[np.ndarray, DrawnFace]:
    """A scene uint8 [480, 640, 3], and the face in it."""
    rng = np.random.default_rng([SERIES, index])
    face = draw_face(build_face_rng(SERIES, index), FACE)
    coarse = rng.integers(60, 200, (4, 5, 3), np.uint8)
    scene = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(scene)
    for _ in range(6):
        x, y, size = rng.integers(0, WIDTH), rng.integers(0, HEIGHT), rng.integers(30, 120)
        draw = pen.rectangle if rng.random() < 0.5 else pen.ellipse
        draw((int(x), int(y), int(x + size), int(y + size)), tuple(int(each) for each in rng.integers(0, 256, 3)))
    degrees = rng.uniform(-most_degrees, most_degrees)
    turned = Image.fromarray(face.image).rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    mask = Image.new("L", face.image.shape[:2], 255).rotate(degrees, expand=True)
    place = int(rng.integers(0, WIDTH - turned.width + 1)), int(rng.integers(0, max(1, HEIGHT - turned.height + 1)))
    scene.paste(turned, place, mask)
    return np.asarray(scene), face


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--turn", type=float, default=0.0, help="largest turn of a face, in degrees")
    parser.add_argument("--margin", type=float, default=0.4)
    args = parser.parse_args()
    questions = load_question_set("clear_face")
    scorer = BlipScorer(
        load_blip(str(resolve_checkpoint("tiny", None))), questions.vqa_questions(), device="cpu", batch_size=16
    )
    scenes = [draw_scene(index, args.turn) for index in range(args.scenes)]
    finders = {mode: FaceFinder(FaceView(mode=mode, margin=args.margin, missing="whole")) for mode in ("crop", "align")}
    found = sum(finders["crop"].find(scene).face is not None for scene, _ in scenes)
    print(f"{args.scenes} scenes, turned by up to {args.turn:g} degrees; a face is found in {found / args.scenes:.1%}")
    views: dict[str, Callable[[np.ndarray, DrawnFace], np.ndarray]] = {
        "whole picture": lambda scene, face: scene,
        "--faces crop": lambda scene, face: finders["crop"].find(scene).pixels,
        "--faces align": lambda scene, face: finders["align"].find(scene).pixels,
        "the drawing itself": lambda scene, face: face.image,
    }
    print(f"{'F1 of':<20} {' '.join(f'{name:>12}' for name in (*ASKED, 'mean'))}")
    for name, view in views.items():
        pixels = np.stack([resize_rgb(view(*each), scorer.image_size_px) for each in scenes])
        labels = questions.compute_labels(scorer.score(pixels))
        figures = [f1_score([face.labels[each] for _, face in scenes], labels[each].label) for each in ASKED]
        print(f"{name:<20} {' '.join(f'{figure:12.3f}' for figure in (*figures, float(np.mean(figures))))}")


if __name__ == "__main__":
    main()
