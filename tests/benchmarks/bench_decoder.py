#!/usr/bin/env python
"""Images/s of a decoder: all questions as one continuation, against each question alone; same model, same images.

    python tests/benchmarks/bench_decoder.py --family smolvlm --rounds 3 --images 4 --threads 1

Three ways are timed in turn within each round, so that a busy moment of the machine hits all of them alike:
    alone    one forward pass for each question, image and prompt, all images at once: the least that a script needs
             which asks one question at a time, since it reads the answers' first token alone
    plain    PlainDecoder: each question with each of its answers alone (`--engine hf`)
    shared   DecoderScorer (`--engine packed`)
The weights are random, in sizes at which the vision tower and the image's tokens are most of the work. Decoding and
resizing are left out everywhere. The figures are medians over rounds; trust the ratios more than the images/s.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from faceattr.vqa.decoder.checkpoint import DecoderCheckpoint, load_decoder
from faceattr.vqa.decoder.reference import PlainDecoder
from faceattr.vqa.decoder.scorer import DecoderScorer
from faceattr.vqa.questions import VqaQuestion
from tests.benchmarks.ratios import tell_ratio
from tests.decoder_checkpoints import SIZES, Sizes, save_random_decoder

TEXTS = (
    "is the person wearing a hat?",
    "is the person wearing glasses?",
    "does the person have a beard?",
    "is the person smiling?",
    "is the mouth open?",
    "are the eyes closed?",
    "is there a hat on the head?",
    "are there glasses on the face?",
)
# 256 patches, of which 64 tokens are made, as in SmolVLM with one tile at half its resolution.
BENCH_SIZES = Sizes(
    image=256,
    patch=16,
    vision_width=384,
    vision_layers=8,
    vision_heads=6,
    width=384,
    layers=8,
    heads=6,
    key_heads=2,
    mlp_ratio=4,
)


def ask_alone(checkpoint: DecoderCheckpoint, images: np.ndarray) -> None:
    """One forward pass for each question; the logits behind its prompt have the answers' first tokens."""
    for text in TEXTS:
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        prompt = checkpoint.processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        inputs = checkpoint.encode([prompt] * len(images), list(images))
        with torch.inference_mode():
            checkpoint.model(**inputs, use_cache=False, logits_to_keep=1).logits.log_softmax(dim=-1)


def measure(ways: dict[str, Callable[[np.ndarray], object]], images: np.ndarray, rounds: int) -> dict[str, float]:
    """Returns the median of the images/s of each way, after a warm-up."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(images[:1])
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(images)
            rates[name].append(len(images) / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Prints the rates of the three ways, their ratios, and how far the scores are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="smolvlm", choices=sorted(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    questions = [VqaQuestion(text, ("no", "yes")) for text in TEXTS]
    with tempfile.TemporaryDirectory() as folder:
        saved = save_random_decoder(Path(folder) / options.family, options.family, sizes=BENCH_SIZES, scale=1.0)
        checkpoint = load_decoder(saved)
    batch_size = options.images
    shared = DecoderScorer(checkpoint, questions, device="cpu", batch_size=batch_size)
    plain = PlainDecoder(checkpoint, questions, device="cpu", batch_size=batch_size)
    size = shared.image_size_px
    images = np.random.default_rng(0).integers(0, 256, (options.images, size, size, 3), dtype=np.uint8)
    difference = np.abs(shared.score(images) - plain.score(images)).max()
    ways = {"alone": lambda some: ask_alone(checkpoint, some), "plain": plain.score, "shared": shared.score}
    rates = measure(ways, images, options.rounds)
    print(f"{options.family} {size} px, {len(TEXTS)} questions, {options.images} images, {options.threads} threads")
    for name, rate in rates.items():
        print(f"{name:8} {rate:8.2f} images/s   shared is {rates['shared'] / rate:5.2f} x")
    for name in ("alone", "plain"):
        tell_ratio(f"decoder.8_questions.{name}", rates["shared"] / rates[name])
    print(f"scores of shared and plain: {difference:.1e} apart")


if __name__ == "__main__":
    main()
