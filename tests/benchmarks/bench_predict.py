"""Images per second of prediction, against the ways that it replaces, in one run, interleaved.

    predict_batch          faceattr's Python API, one process
    pipeline               pipelines/predict.py in its steady state
    one by one             the UTKFace ViT's way: PIL, torchvision's transforms, one forward for each image
    transformers           pipeline("image-classification") with the same backbone, random weights, its own batches

All with the same backbone, the same files and the same number of CPU threads (pipelines/predict.py: as many actors of
one thread). Weights are random: speed does not depend on them. Decoding, resizing and the forward pass are all counted.
The ways that are replaced compute in float32, as they do of themselves; --precision is ours, beside float32.

    python tests/benchmarks/bench_predict.py --backbone vit --threads 2
    python tests/benchmarks/bench_predict.py --backbone resnet18 --side 1024
"""

import argparse
import functools
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)

sys.path.insert(0, str(Path(__file__).parents[2]))

import faceattr
from faceattr.attributes import Attribute, AttributeSet
from faceattr.models.backbones.names import build_backbone
from faceattr.models.multitask import MultiAttributeModel
from tests.benchmarks.ratios import tell_ratio
from tests.benchmarks.steady import steady_rate

ROOT = Path(__file__).parents[2]
BLOCK_ROWS = 32  # of pipelines/predict.py
ATTRIBUTES = AttributeSet(attributes=(Attribute(name="hat"), Attribute(name="glasses"), Attribute(name="beard")))
# Ours, and the same network in transformers.
BACKBONES: dict[str, tuple[str, Callable[[], torch.nn.Module]]] = {
    "vit": ("vit_base_patch16_224", lambda: ViTForImageClassification(ViTConfig())),
    "vit-small": (
        "vit_small_patch16_224",
        lambda: ViTForImageClassification(ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)),
    ),
    "resnet18": (
        "resnet18",
        lambda: ResNetForImageClassification(
            ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512])
        ),
    ),
}


def make_images(folder: Path, num: int, side: int) -> list[Path]:
    """JPEGs as photos are: smooth, with noise."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = []
    for number in range(num):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        pixels = np.clip(np.asarray(small, np.int16) + rng.integers(-8, 9, (side, side, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        paths.append(folder / f"{number:05d}.jpg")
        paths[-1].write_bytes(buffer.getvalue())
    return paths


def predict_one_by_one(model: MultiAttributeModel, paths: list[Path]) -> None:
    """The UTKFace ViT's predict_image in a loop, its model loaded once."""
    wanted = model.backbone.preprocessing
    transform = v2.Compose(
        [
            v2.Resize((wanted.size_px, wanted.size_px)),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(wanted.mean, wanted.std),
        ]
    )
    for path in paths:
        image = transform(Image.open(path).convert("RGB")).unsqueeze(0)
        with torch.no_grad():
            outputs = model(image)
        {name: float(torch.sigmoid(output)[0, 0]) for name, output in outputs.items()}


def pipeline_rate(model: Path, images: Path, output: Path, threads: int, precision: str) -> float:
    """Images a second of pipelines/predict.py with an actor for each thread."""
    words = ["--model", str(model), "--images", str(images), "--output", str(output), "--ray.no-dashboard"]
    words += ["--precision", precision, "--workers.max-actors", str(threads)]
    words += ["--workers.block-rows", str(BLOCK_ROWS), "--ray.object-store-mb", "300"]
    command = [sys.executable, str(ROOT / "pipelines" / "predict.py"), *words]
    with tempfile.TemporaryDirectory(prefix="fa-") as scratch:
        environment = {**os.environ, "RAY_TMPDIR": scratch, "FACEATTR_LOG_LEVEL": "WARNING"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
    return steady_rate(output, workers=threads, block_rows=BLOCK_ROWS)


def timed(work: Callable[[], object], num: int) -> float:
    started = time.perf_counter()
    work()
    return num / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=BACKBONES, default="vit")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--pipeline-images", type=int, default=640, help="the same files, over and over")
    parser.add_argument("--side", type=int, default=224, help="of the files, px")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", choices=["bfloat16", "float16"], help="measure ours in this type too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-pipeline", action="store_true", help="leave pipelines/predict.py out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    name, build_theirs = BACKBONES[arguments.backbone]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = make_images(folder / "images", arguments.images, arguments.side)
        (folder / "many").mkdir()
        for number in range(arguments.pipeline_images):
            os.link(paths[number % len(paths)], folder / "many" / f"{number:05d}.jpg")
        ours = MultiAttributeModel(build_backbone(name, pretrained=False), ATTRIBUTES).eval()
        ours.save_pretrained(folder / "model")
        theirs = pipeline(
            "image-classification",
            model=build_theirs().eval(),
            image_processor=ViTImageProcessor(),
            batch_size=arguments.batch_size,
            device="cpu",
        )
        precisions = ["float32", *([arguments.precision] if arguments.precision else [])]
        names = [str(path) for path in paths]
        ways: dict[str, Callable[[], object]] = {
            **{
                f"predict_batch {each}": functools.partial(
                    faceattr.predict_batch, names, ours, batch_size=arguments.batch_size, precision=each
                )
                for each in precisions
            },
            "one by one": lambda: predict_one_by_one(ours, paths),
            "transformers": lambda: list(theirs(names)),
        }
        for work in ways.values():  # warm: first calls choose kernels
            work()
        rates: dict[str, list[float]] = {way: [] for way in (*ways, *(f"pipeline {each}" for each in precisions))}
        for turn in range(arguments.rounds):
            for way, work in ways.items():
                rates[way].append(timed(work, len(paths)))
            for each in precisions if not arguments.without_pipeline else []:
                run = folder / f"run_{each}_{turn}"
                rate = pipeline_rate(folder / "model", folder / "many", run, arguments.threads, each)
                rates[f"pipeline {each}"].append(rate)
            print({way: round(values[-1], 1) for way, values in rates.items() if values}, flush=True)
    middle = {way: statistics.median(values) for way, values in rates.items() if values}
    for way in (each for each in middle if each.startswith(("predict_batch", "pipeline"))):
        print(f"{way:24} {middle[way]:8.1f} images/s, {arguments.backbone}, {arguments.threads} threads")
        for other in ("one by one", "transformers"):
            print(f"    / {other:18} {middle[way] / middle[other]:8.2f}")
            tell_ratio(f"predict.{way}.{other}".replace(" ", "_"), middle[way] / middle[other])


if __name__ == "__main__":
    main()
