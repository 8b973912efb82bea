#!/usr/bin/env python
"""Images per second and peak memory of each model in `faceattr/planning/models.yaml`, as its engine scores them.

    python tests/benchmarks/bench_models.py --threads 2
    python tests/benchmarks/bench_models.py --models Salesforce/blip-vqa-base

Random weights in the published sizes, three attributes (the prompts or questions of the set `portrait`, the first
three), images of the model's own size: decoding and resizing are left out. Each model has a process of its own; one
whose weights do not fit into the free memory is left out, and named.

These are images/s of one machine, which no peer was timed beside: they order models, and are no promise.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.planning.models import ModelEntry, load_models
from faceattr.vqa.contrastive.modules import load_contrastive
from faceattr.vqa.contrastive.scorer import ContrastiveScorer
from faceattr.vqa.decoder.checkpoint import DecoderCheckpoint
from faceattr.vqa.decoder.families import DECODER_FAMILIES
from faceattr.vqa.decoder.scorer import DecoderScorer
from faceattr.vqa.decoder.square import read_square
from faceattr.vqa.question_files import load_question_set
from faceattr.vqa.questions import VqaQuestion
from faceattr.vqa.scorer import Scorer
from tests.decoder_checkpoints import Sizes, build_random_decoder
from tests.published_sizes import CONTRASTIVE, DECODERS

NUM_ATTRIBUTES = 3
# Two copies while a contrastive checkpoint is read, and what torch and the activations take.
SPARE_GB = 2.0


def build_scorer(name: str, entry: ModelEntry, batch_size: int) -> Scorer:
    """Returns the fast engine of a model with random weights."""
    asked = load_question_set("portrait").asked[:NUM_ATTRIBUTES]
    if entry.family in DECODER_FAMILIES:
        questions = [VqaQuestion(each.questions[0], each.answers) for each in asked]
        return DecoderScorer(build_decoder(name, entry), questions, device="cpu", batch_size=batch_size)
    if name in CONTRASTIVE:
        from tests.benchmarks.bench_contrastive import save_random_model

        prompts = [[(texts[0],) for texts in each.answer_prompts()] for each in asked]
        with tempfile.TemporaryDirectory() as folder:
            save_random_model(name, Path(folder), [text for answers in prompts for (text,) in answers])
            checkpoint = load_contrastive(Path(folder), attention="sdpa")
        return ContrastiveScorer(checkpoint, prompts, device="cpu", batch_size=batch_size)
    from tests.benchmarks.bench_vqa import TEXTS, BlipScorer, build_checkpoint

    questions = [VqaQuestion(text, ("yes", "no")) for text in TEXTS[:NUM_ATTRIBUTES]]
    return BlipScorer(build_checkpoint("base")[0], questions, device="cpu", batch_size=batch_size)


def build_decoder(name: str, entry: ModelEntry) -> DecoderCheckpoint:
    """Returns a model in memory: written and read again it would only wait for the disk."""
    config = DECODERS[name]
    vision = config.get("vision_config", {})
    patch = vision.get("patch_size", 16 if entry.family == "qwen3_vl" else 14)
    sizes = Sizes(
        image=entry.size_px,
        patch=patch,
        merge=config.get("scale_factor", 2),
        vision_width=1280 if entry.family in ("qwen2_vl", "qwen2_5_vl") else 1024,
        vision_layers=vision.get("depth", 32 if entry.family.startswith("qwen") else 24),
        vision_heads=vision.get("num_attention_heads", 16),
        mlp_ratio=4,
        published=config,
    )
    model, processor = build_random_decoder(entry.family, sizes=sizes)
    family = DECODER_FAMILIES[entry.family]
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        square = read_square(Path(folder), family)
    return DecoderCheckpoint(folder=Path(name), model=model.eval(), processor=processor, family=family, square=square)


def measure_model(name: str, *, images: int, rounds: int, threads: int) -> None:
    """Prints the figures of one model."""
    torch.set_num_threads(threads)
    entry = load_models()[name]
    scorer = build_scorer(name, entry, images)
    shape = (images, entry.size_px, entry.size_px, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    scorer.score(pixels[:1])
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        scorer.score(pixels)
        seconds.append(time.perf_counter() - start)
    rate = images / statistics.median(seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    work = f"{rate * ((entry.gflop_image or 0) + NUM_ATTRIBUTES * (entry.gflop_question or 0)):.0f} GFLOP/s"
    print(f"{name:44} {rate:8.3f} images/s  {work:>12}  peak memory {peak:5.1f} GB", flush=True)


def read_free_gb() -> float:
    """Memory that processes may still take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024 / 1e9


def main() -> None:
    """Measures each model in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(load_models()), default=list(load_models()))
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if len(given.models) == 1:
        measure_model(given.models[0], images=given.images, rounds=given.rounds, threads=given.threads)
        return
    for name in given.models:
        needed, free = load_models()[name].weights_gb + SPARE_GB, read_free_gb()
        if needed > free:
            print(f"{name:44} not measured: {needed:.0f} GB of memory are needed, {free:.0f} GB are free", flush=True)
            continue
        words = [f"--{key}={getattr(given, key)}" for key in ("images", "rounds", "threads")]
        subprocess.run([sys.executable, __file__, *words, "--models", name], check=True)


if __name__ == "__main__":
    main()
