"""Images a second of the whole label run, against a bare loop and against the Ray Data script that one would write."""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.label_runs import finish, make_images, start_label
from tests.benchmarks.steady import steady_rate
from tests.checkpoints import save_random_checkpoint

QUESTIONS = """attributes:
  hat: {questions: ["is the person wearing a hat?"]}
  glasses: {questions: ["is the person wearing glasses?"]}
  beard: {questions: ["is there a beard on the face?"]}
"""
SIZES = {
    "base": {"image": 384, "patch": 16, "width": 768, "layers": 12, "heads": 12, "text_layers": 12, "text_heads": 12},
    # The proportions of blip-vqa-base at half its width and 224 px: for a first look.
    "half": {"image": 224, "patch": 16, "width": 384, "layers": 12, "heads": 6, "text_layers": 12, "text_heads": 6},
}
BLOCK_ROWS = 8  # of ours


def bare_worker(model: str, paths: list[Path], ready: Any, seconds: Any) -> None:
    """Reads, decodes and scores on one core. Uses our own parts: what is compared is all that is around them."""
    import torch

    from faceattr.config import ImageLimitsConfig
    from faceattr.data.images.decode import decode_image
    from faceattr.vqa.blip.checkpoint import load_blip
    from faceattr.vqa.blip.preprocess import resize_rgb
    from faceattr.vqa.blip.scorer import BlipScorer
    from faceattr.vqa.question_files import parse_question_set

    torch.set_num_threads(1)
    questions = parse_question_set(QUESTIONS, name="bench", where="bench").vqa_questions()
    scorer = BlipScorer(load_blip(model), questions, device="cpu", batch_size=8)
    limits = ImageLimitsConfig()
    scorer.score(np.zeros((8, scorer.image_size_px, scorer.image_size_px, 3), np.uint8))  # warm, as the actors are
    ready.wait()
    started = time.perf_counter()
    for start in range(0, len(paths), 8):
        pixels = [decode_image(path.read_bytes(), limits) for path in paths[start : start + 8]]
        scorer.score(np.stack([resize_rgb(each, scorer.image_size_px) for each in pixels]))
    seconds.put(time.perf_counter() - started)


def bare_rate(model: Path, images: Path, cores: int) -> float:
    paths = sorted(images.iterdir())
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(cores), context.Queue()
    workers = [
        context.Process(target=bare_worker, args=(str(model), paths[core::cores], barrier, queue))
        for core in range(cores)
    ]
    for worker in workers:
        worker.start()
    seconds = max(queue.get() for _ in workers)
    for worker in workers:
        worker.join()
    return len(paths) / seconds


PLAIN = """
import json, sys
import ray, torch
from transformers import AutoProcessor, BlipForQuestionAnswering
images, output, model, cores = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
QUESTIONS = {"hat": "is the person wearing a hat?", "glasses": "is the person wearing glasses?",
             "beard": "is there a beard on the face?"}

class Labeller:
    def __init__(self):
        torch.set_num_threads(1)
        from transformers import BertTokenizer, BlipImageProcessor
        self.tokenizer = BertTokenizer.from_pretrained(model)
        self.image_processor = BlipImageProcessor.from_pretrained(model)
        self.model = BlipForQuestionAnswering.from_pretrained(model).eval()

    def __call__(self, batch):
        pixels = self.image_processor(images=list(batch["image"]), return_tensors="pt")["pixel_values"]
        for name, question in QUESTIONS.items():
            text = self.tokenizer([question] * len(pixels), return_tensors="pt")
            with torch.inference_mode():
                answers = self.model.generate(input_ids=text["input_ids"], attention_mask=text["attention_mask"],
                                              pixel_values=pixels, max_new_tokens=3)
            batch[name] = [each.strip() for each in self.tokenizer.batch_decode(answers, skip_special_tokens=True)]
        del batch["image"]
        return batch

ray.init(address="local", include_dashboard=False, log_to_driver=False)
ray.data.DataContext.get_current().enable_progress_bars = False
dataset = ray.data.read_images(images, include_paths=True, override_num_blocks=24, mode="RGB")
dataset = dataset.map_batches(Labeller, batch_size=8, compute=ray.data.ActorPoolStrategy(size=cores), num_cpus=0.5)
dataset.write_parquet(output)
import pathlib
print(json.dumps(sorted(path.stat().st_mtime for path in pathlib.Path(output).glob("*.parquet"))))
"""


def plain_rate(model: Path, images: Path, output: Path, cores: int) -> float:
    """The Ray Data script that one would write, from when each worker has written its first file to its last."""
    command = [sys.executable, "-c", PLAIN, str(images), str(output), str(model), str(cores)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    times = json.loads(answer)
    rows = len(list(images.iterdir())) / len(times)
    return (len(times) - cores) * rows / (times[-1] - times[cores - 1])


def bench_rates(*, size: str, num_images: int, rounds: int, cores: int) -> None:
    """Prints images/s of ours and of both peers, in turn."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        questions = folder / "questions.yaml"
        questions.write_text(QUESTIONS)
        images = make_images(folder / "images", num_images)
        model = save_random_checkpoint(folder / "model", **SIZES[size])
        few = folder / "few"
        few.mkdir()
        for path in sorted(images.iterdir())[: num_images // 3]:
            os.link(path, few / path.name)
        rates: dict[str, list[float]] = {"ours": [], "bare loop": [], "plain Ray Data": []}
        for turn in range(rounds):
            output = folder / f"run{turn}"
            flags = ["--attributes", str(questions), "--workers.max-actors", str(cores)]
            flags += ["--ray.object-store-mb", "200", "--workers.block-rows", str(BLOCK_ROWS)]
            finish(start_label(images, output, model, *flags), output)
            rates["ours"].append(steady_rate(output, workers=cores, block_rows=BLOCK_ROWS))
            rates["bare loop"].append(bare_rate(model, images, cores))
            rates["plain Ray Data"].append(plain_rate(model, few, folder / f"plain{turn}", cores))
            print({name: round(values[-1], 1) for name, values in rates.items()}, flush=True)
    ours = statistics.median(rates["ours"])
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{name:16} {middle:8.1f} images/s   ours / {name} = {ours / middle:.2f}")
