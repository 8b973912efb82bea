#!/usr/bin/env python
"""Images per second: ContrastiveScorer against transformers' zero-shot-image-classification pipeline, 10 attributes.

    python tests/benchmarks/bench_contrastive.py --model clip-b32 --rounds 3 --images 16 --threads 2

Random weights in the published sizes; the same images (256 px, as PIL images or arrays) and prompts for all. Resizing
is included everywhere, decoding nowhere. Three ways are timed in turn within each round, so that a busy moment of the
machine hits all of them alike:
    attributes  one call of the pipeline for each attribute, as its scores are normalised over the labels of a call
    together    one call with the labels of all attributes: the image is encoded once, the texts for every image
    ours        frame_rgb and ContrastiveScorer
The figures are medians over rounds; trust the ratios more than the seconds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    pipeline,
)

sys.path.insert(0, str(Path(__file__).parents[2]))
from faceattr.vqa.contrastive.modules import load_contrastive
from faceattr.vqa.contrastive.preprocess import frame_rgb
from faceattr.vqa.contrastive.reference import build_plain_contrastive
from faceattr.vqa.contrastive.scorer import ContrastiveScorer
from faceattr.vqa.question_files import load_question_set
from faceattr.vqa.scorer import draw_noise, self_test
from tests.benchmarks.ratios import tell_ratio
from tests.published_sizes import CONTRASTIVE

MODELS = {
    "clip-b32": "openai/clip-vit-base-patch32",
    "clip-b16": "openai/clip-vit-base-patch16",
    "clip-l14": "openai/clip-vit-large-patch14",
    "siglip2-b16": "google/siglip2-base-patch16-224",
}


def save_random_model(name: str, folder: Path, texts: list[str]) -> None:
    """Writes a checkpoint of a model in `CONTRASTIVE`, whose tokens are the words of the texts."""
    settings = CONTRASTIVE[name]
    words = sorted({word for text in texts for word in text.replace("-", " - ").replace(",", " , ").split()})
    torch.manual_seed(0)
    if "clip" in name.partition("/")[2].split("-"):
        letters = [*"abcdefghijklmnopqrstuvwxyz-,"]
        tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
        merges = []
        for word in words:  # each word becomes one token, letter by letter from its end
            end = f"{word[-1]}</w>"
            for letter in reversed(word[:-1]):
                merges.append((letter, end))
                end = letter + end
                tokens.append(end)
        vocabulary = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
        tokenizer: Any = CLIPTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)))
        ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        model: Any = CLIPModel(CLIPConfig(**settings | {"text_config": settings.get("text_config", {}) | ids}))
        processor: Any = CLIPImageProcessor()
    else:
        tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *"abcdefghijklmnopqrstuvwxyz-,", "\N{LOWER ONE EIGHTH BLOCK}"]
        tokenizer = Siglip2Tokenizer(vocab={token: place for place, token in enumerate(tokens)}, merges=[])
        side = settings.get("vision_config", {}).get("image_size", 224)
        model = SiglipModel(SiglipConfig(**settings))
        processor = SiglipImageProcessor(size={"height": side, "width": side})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)


def measure_seconds(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of one call of each, after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="clip-b32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    asked = load_question_set("portrait").asked
    # One prompt for an answer: the pipeline averages none.
    prompts = [[(texts[0],) for texts in each.answer_prompts()] for each in asked]
    labels = [[text for (text,) in answers] for answers in prompts]
    arrays = np.random.default_rng(0).integers(0, 256, size=(args.images, 256, 256, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each) for each in arrays]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_random_model(MODELS[args.model], folder, [text for answers in labels for text in answers])
        checkpoint = load_contrastive(folder, attention="sdpa")
        scorer = ContrastiveScorer(checkpoint, prompts, device="cpu", batch_size=8)
        plain = build_plain_contrastive(folder, prompts, device="cpu", batch_size=2)
        error = self_test(scorer, plain.score(draw_noise(scorer.image_size_px)))
        tower = sum(each.numel() for each in checkpoint.model.parameters()) / 1e6
        zero_shot: Any = pipeline(
            "zero-shot-image-classification",
            model=checkpoint.model,
            tokenizer=checkpoint.tokenizer,
            image_processor=checkpoint.image_processor,
            device="cpu",
        )
        together = [text for answers in labels for text in answers]
        ways: dict[str, Callable[[], object]] = {
            "attributes": lambda: [
                zero_shot(pictures, candidate_labels=each, hypothesis_template="{}") for each in labels
            ],
            "together": lambda: zero_shot(pictures, candidate_labels=together, hypothesis_template="{}"),
            "ours": lambda: scorer.score(
                np.stack([frame_rgb(each, checkpoint.preprocessing.framing) for each in arrays])
            ),
        }
        print(
            f"{args.model}, {tower:.0f} M parameters: {args.images} images, {len(labels)} attributes, "
            f"{len(together)} prompts, {args.rounds} rounds, {args.threads} threads; parity {error:.1e}"
        )
        seconds = measure_seconds(ways, args.rounds)
    for way, value in seconds.items():
        print(f"{way:10} {args.images / value:8.2f} images/s   ours is {value / seconds['ours']:.1f}x", flush=True)
    for way in ("attributes", "together"):
        tell_ratio(f"contrastive.{args.model}.pipeline_{way}", seconds[way] / seconds["ours"])


if __name__ == "__main__":
    main()
