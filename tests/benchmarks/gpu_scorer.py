"""Sections of `bench_gpu.py` on the BLIP scorer: its rates, its peers, copies, compilation, fp8, kernels. No Ray."""

import functools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import BertTokenizer, BlipForQuestionAnswering

from faceattr.vqa.blip.checkpoint import load_blip
from faceattr.vqa.blip.scorer import BlipScorer
from tests.benchmarks.gpu_report import Figure
from tests.benchmarks.gpu_setting import Setting, ask, images_per_s

# FLOPs of an image at blip-vqa-base size, counted: docs/benchmarks.md.
GFLOP_FIXED, GFLOP_PER_QUESTION = 127.2, 3.18
_MATRIX = 8192


def scorer(setting: Setting) -> Iterator[Figure]:
    """`BlipScorer.score` with pixels in ordinary memory, by questions and batch size."""
    peak = _matmul_tflops(setting)
    yield Figure("matmul peak", peak, "TFLOP/s", "half precision" if setting.device.type == "cuda" else "float32")
    checkpoint = load_blip(str(setting.model))
    images = setting.images(setting.pick(1024, 16))
    for num_questions in (1, 3, 8):
        for batch_size in (64, 128, 256):
            one = BlipScorer(checkpoint, ask(num_questions), device=setting.device.type, batch_size=batch_size)
            rate = images_per_s(functools.partial(one.score, images), len(images), setting)
            tflops = rate * (GFLOP_FIXED + num_questions * GFLOP_PER_QUESTION) / 1e3
            note = "" if setting.small else f"{tflops / peak:.0%} of the matmul peak"
            yield Figure(f"{num_questions} questions, batch {batch_size}", rate, "images/s", note)


def _matmul_tflops(setting: Setting) -> float:
    device, size = setting.device, setting.pick(_MATRIX, 256)
    matrix = torch.randn(size, size, device=device, dtype=torch.float16 if device.type == "cuda" else torch.float32)
    return images_per_s(lambda: matrix @ matrix, 1, setting) * 2 * size**3 / 1e12


@torch.inference_mode()
def peers(setting: Setting) -> Iterator[Figure]:
    """Hugging Face `generate` for each question: one image at a time, and batches whose pixels are on the device."""
    device = setting.device
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    model = BlipForQuestionAnswering.from_pretrained(setting.model, dtype=dtype).eval().to(device)
    tokenizer = BertTokenizer.from_pretrained(setting.model)
    batch = setting.pick(64, 4)
    pixels = torch.randn(batch, 3, setting.size_px, setting.size_px, device=device, dtype=dtype)

    def generate(questions: list[torch.Tensor], pixels: torch.Tensor) -> None:
        for ids in questions:
            asked = ids.expand(len(pixels), -1)
            # Two tokens, `yes [SEP]`: what a one-word answer needs.
            model.generate(input_ids=asked, pixel_values=pixels, max_new_tokens=2, do_sample=False)

    for num_questions in (1, 3, 8):
        ids = [tokenizer(each.text, return_tensors="pt").input_ids.to(device) for each in ask(num_questions)]
        naive = images_per_s(functools.partial(generate, ids, pixels[:1]), 1, setting)
        yield Figure(f"generate, {num_questions} questions, one image at a time", naive, "images/s")
        batched = images_per_s(functools.partial(generate, ids, pixels), batch, setting)
        yield Figure(f"generate, {num_questions} questions, batches of {batch}", batched, "images/s")


def copy(setting: Setting) -> Iterator[Figure]:
    """Pixels to the device, from pageable and from page-locked memory."""
    device = setting.device
    for batch in (64, 128, 256):
        pageable = torch.from_numpy(setting.images(batch))
        kinds = {"pageable": pageable}
        if device.type == "cuda":
            kinds["pinned"] = pageable.pin_memory()
        for kind, pixels in kinds.items():
            copied = functools.partial(pixels.to, device, non_blocking=kind == "pinned", copy=True)
            rate = images_per_s(copied, batch, setting)
            gigabytes = rate * pageable[0].numel() / 1e9
            yield Figure(f"{kind}, {batch} images", 1e3 * batch / rate, "ms", f"{gigabytes:.1f} GB/s")


def compiled(setting: Setting) -> Iterator[Figure]:
    """The scorer with `torch.compile`: how long the first call takes, and the rate after it."""
    yield from _variant(setting, "compiled", compile_in=setting.folder / "kernels")


def fp8(setting: Setting) -> Iterator[Figure]:
    """The scorer in fp8: its rate, and how many labels differ from those in the usual precision."""
    yield from _variant(setting, "fp8", dtype=torch.float8_e4m3fn)


def _variant(setting: Setting, name: str, **arguments: Any) -> Iterator[Figure]:
    """The scorer with arguments that are not the default, against the scorer without, 3 questions."""
    checkpoint = load_blip(str(setting.model))
    images = setting.images(setting.pick(512, 16))
    usual = BlipScorer(checkpoint, ask(3), device=setting.device.type, batch_size=128)
    changed = BlipScorer(checkpoint, ask(3), device=setting.device.type, batch_size=128, **arguments)
    started = time.perf_counter()
    found = changed.score(images)
    yield Figure("first call", time.perf_counter() - started, "s")
    before = images_per_s(functools.partial(usual.score, images), len(images), setting)
    after = images_per_s(functools.partial(changed.score, images), len(images), setting)
    yield Figure(name, after, "images/s", f"{after / before:.2f} of {before:,.0f} without")
    expected = usual.score(images)
    differ = sum(
        int(
            (
                (found[:, each.stop - 1] > found[:, each.start])
                != (expected[:, each.stop - 1] > expected[:, each.start])
            ).sum()
        )
        for each in usual.answer_slices
    )
    yield Figure("labels that differ", differ, f"of {3 * len(images)}", "random weights and images")
    yield Figure("largest difference", float(np.abs(found - expected).max()), "in log p")


def kernels(setting: Setting) -> Iterator[Figure]:
    """The operations on the device that take the longest, 3 questions, a batch of 128."""
    on_gpu = setting.device.type == "cuda"
    batch, rounds = setting.pick(128, 8), 4
    one = BlipScorer(load_blip(str(setting.model)), ask(3), device=setting.device.type, batch_size=batch)
    images = setting.images(batch)
    one.score(images)
    activity = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity]) as profile:
        for _ in range(rounds):
            one.score(images)
    times_ms = {
        each.key: (each.self_device_time_total if on_gpu else each.self_cpu_time_total) / 1e3 / rounds
        for each in profile.key_averages()
    }
    total_ms = sum(times_ms.values())
    yield Figure("all kernels", total_ms, "ms", f"a batch of {batch}")
    for name in sorted(times_ms, key=lambda each: times_ms[each], reverse=True)[:15]:
        shown = name.replace("|", "/")[:80]
        yield Figure(f"`{shown}`", times_ms[name], "ms", f"{times_ms[name] / total_ms:.1%}")
