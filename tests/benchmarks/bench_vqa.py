#!/usr/bin/env python
"""Seconds and FLOPs per image: BlipScorer against Hugging Face `generate`, same random weights, same images.

    python tests/benchmarks/bench_vqa.py --size base --rounds 3 --images 4 --threads 2
    python tests/benchmarks/bench_vqa.py --size small

Three ways are timed in turn within each round, so that a busy moment of the machine hits all of them alike:
    naive    one `generate` per question and image
    batched  one `generate` per question, all images at once
    packed   BlipScorer
`generate` makes two tokens (`yes [SEP]`), which is what it needs for a one-word answer. Decoding and resizing are left
out everywhere. The figures are medians over rounds; trust the ratios more than the seconds.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    BlipTextConfig,
    BlipVisionConfig,
)

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.vqa.blip.checkpoint import BlipCheckpoint
from faceattr.vqa.blip.network.architecture import read_architecture
from faceattr.vqa.blip.network.weights import select_weights
from faceattr.vqa.blip.oracle.modules import HfBlip
from faceattr.vqa.blip.oracle.reference import HfScorer
from faceattr.vqa.blip.preprocess import BlipPreprocessing
from faceattr.vqa.blip.scorer import BlipScorer
from faceattr.vqa.questions import VqaQuestion
from faceattr.vqa.scorer import draw_noise, self_test
from tests.benchmarks.ratios import tell_ratio

TEXTS = (
    "is the person wearing a hat ?",
    "is the person wearing glasses ?",
    "does the man have a beard or a mustache ?",
    "is there a cap on the head ?",
    "are there sunglasses on the face ?",
    "is the face clean shaven ?",
    "does this person wear any kind of headwear ?",
    "can you see eyeglasses in this picture ?",
)
NUM_QUESTIONS = (1, 3, 8)
VOCABULARY_SIZE = 30_524
# Image, patch, width, layers, heads; `base` is Salesforce/blip-vqa-base.
SIZES = {"base": (384, 16, 768, 12, 12), "small": (96, 16, 192, 4, 6)}


def build_checkpoint(size: str) -> tuple[BlipCheckpoint, HfBlip]:
    """Random weights in the real shapes, without the way over a disk, for the packed engine and for transformers."""
    image, patch, width, layers, heads = SIZES[size]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *sorted({word for text in TEXTS for word in text.split()}), "yes", "no"]
    words += [f"filler{i}" for i in range(VOCABULARY_SIZE - 2 - len(words))] + ["[DEC]", "[ENC]"]
    vocabulary = {word: i for i, word in enumerate(words)}
    text = BlipTextConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        bos_token_id=vocabulary["[DEC]"],
        sep_token_id=vocabulary["[SEP]"],
        pad_token_id=vocabulary["[PAD]"],
    )
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=image,
        patch_size=patch,
        initializer_range=0.02,
    )
    torch.manual_seed(0)
    processor = BlipImageProcessor(size={"height": image, "width": image})
    config = BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    plain = HfBlip(
        name=f"random {size}",
        model=BlipForQuestionAnswering(config).eval(),
        tokenizer=BertTokenizer(vocab=vocabulary, bos_token="[DEC]", additional_special_tokens=["[ENC]"]),
        image_processor=processor,
        size_px=image,
    )
    architecture = read_architecture(config.to_dict(), Path())
    packed = BlipCheckpoint(
        name=plain.name,
        revision=None,
        weights_id="",
        architecture=architecture,
        tensors=select_weights(plain.model.state_dict(), architecture, where=Path()),
        tokenizer=plain.tokenizer,
        preprocessing=BlipPreprocessing(image, tuple(processor.image_mean), tuple(processor.image_std)),
    )
    return packed, plain


def build_ways(
    checkpoint: BlipCheckpoint, plain: HfBlip, questions: list[VqaQuestion], images: np.ndarray
) -> dict[str, Callable[[], object]]:
    """Way -> a call that answers all questions about all images."""
    model = plain.model
    question_ids = [plain.tokenizer(question.text, return_tensors="pt").input_ids for question in questions]
    pixel_values = plain.image_processor(
        images=list(images), do_resize=False, input_data_format="channels_last", return_tensors="pt"
    )["pixel_values"]
    scorer = BlipScorer(checkpoint, questions, device="cpu", batch_size=len(images))

    def ask(input_ids: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        return model.generate(
            input_ids=input_ids.expand(len(pixels), -1), pixel_values=pixels, max_new_tokens=2, do_sample=False
        )

    return {
        "naive": lambda: [ask(ids, pixels[None]) for pixels in pixel_values for ids in question_ids],
        "batched": lambda: [ask(ids, pixel_values) for ids in question_ids],
        "packed": lambda: scorer.score(images),
    }


def measure_seconds(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of one call of each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def count_flops(run: Callable[[], object]) -> int:
    """FLOPs of one call; attention in plain matrix products, since the counter does not know every fused kernel."""
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    checkpoint, plain = build_checkpoint(args.size)
    size_px = checkpoint.preprocessing.size_px
    images = np.random.default_rng(0).integers(0, 256, size=(args.images, size_px, size_px, 3), dtype=np.uint8)
    all_questions = [VqaQuestion(text, ("yes", "no")) for text in TEXTS]
    expected = HfScorer(plain, all_questions, device="cpu").score(draw_noise(size_px))
    error = self_test(BlipScorer(checkpoint, all_questions, device="cpu"), expected)
    print(f"{checkpoint.name}: {args.images} images, {args.rounds} rounds, {args.threads} threads; parity {error:.1e}")
    print(
        "questions |  seconds per image: naive  batched   packed | naive/packed  batched/packed | GFLOP naive  packed"
    )
    for num_questions in NUM_QUESTIONS:
        questions = all_questions[:num_questions]
        one_image = build_ways(checkpoint, plain, questions, images[:1])
        # Counting comes first and warms up.
        gflop = {name: count_flops(one_image[name]) / 1e9 for name in ("naive", "packed")}
        seconds = measure_seconds(build_ways(checkpoint, plain, questions, images), args.rounds)
        naive, batched, packed = (seconds[name] / args.images for name in ("naive", "batched", "packed"))
        print(
            f"{num_questions:9d} | {naive:25.3f} {batched:8.3f} {packed:8.3f} | {naive / packed:12.2f} "
            f"{batched / packed:15.2f} | {gflop['naive']:11.1f} {gflop['packed']:7.1f} "
            f"({gflop['naive'] / gflop['packed']:.2f}x)",
            flush=True,
        )
        tell_ratio(f"vqa.{num_questions}_questions.batched_generate", batched / packed)
        tell_ratio(f"vqa.{num_questions}_questions.single_generate", naive / packed)


if __name__ == "__main__":
    main()
