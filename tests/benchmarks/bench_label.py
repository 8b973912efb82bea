"""Benchmarks of the whole label run. Figures are ratios against a peer in one interleaved run; see README, Performance.

python tests/benchmarks/bench_label.py rates      # against a bare loop, and against the Ray Data script one would write
python tests/benchmarks/bench_label.py memory     # peak memory at 2,000 and at 20,000 images
python tests/benchmarks/bench_label.py resume     # seconds to the first images of a run with 1,000,000 committed rows
python tests/benchmarks/bench_label.py scaling    # 1, 2, 4, 8 actors with a scorer that sleeps
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.checkpoints import save_random_checkpoint

ROOT = Path(__file__).parents[2]
QUESTIONS = """attributes:
  hat: {questions: ["is the person wearing a hat?"]}
  glasses: {questions: ["is the person wearing glasses?"]}
  beard: {questions: ["is there a beard on the face?"]}
"""
# About 12 ms an image and core for the packed scorer: between the tiny model and a real one, which hides all overhead.
MEDIUM = {"image": 128, "patch": 16, "width": 192, "layers": 8, "heads": 3, "text_layers": 4, "text_heads": 3}
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


def steady_rate(output: Path) -> float:
    """Images a second over the last 60 % of the commits.

    Start-up is not counted, nor the images that were decoded while the actors still loaded their model.
    """
    times = sorted(path.stat().st_mtime for path in (output / "labels").iterdir())
    begin = int(0.4 * len(times))
    rows = pq.read_metadata(output / "labels" / "shard-00000000.parquet").num_rows
    return (len(times) - 1 - begin) * rows / (times[-1] - times[begin])


# --- rates ------------------------------------------------------------------------------------------------------------


def bare_worker(model: str, paths: list[Path], ready: Any, seconds: Any) -> None:
    """Reads, decodes and scores on one core. Uses our own parts: what is compared is all that is around them."""
    import torch

    from faceattr.data.images import ImageLimits, decode_image
    from faceattr.vqa.blip import BlipScorer
    from faceattr.vqa.checkpoint import load_blip
    from faceattr.vqa.preprocess import resize_rgb
    from faceattr.vqa.question_files import parse_question_set

    torch.set_num_threads(1)
    questions = parse_question_set(QUESTIONS, name="bench", where="bench").vqa_questions()
    scorer = BlipScorer(load_blip(model), questions, device="cpu", batch_size=8)
    limits = ImageLimits()
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
    """The Ray Data script that one would write; over the last 60 % of its files, as `steady_rate` does."""
    command = [sys.executable, "-c", PLAIN, str(images), str(output), str(model), str(cores)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    times = json.loads(answer)
    begin = int(0.4 * len(times))
    rows = len(list(images.iterdir())) / len(times)
    return (len(times) - 1 - begin) * rows / (times[-1] - times[begin])


def bench_rates(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        questions = folder / "questions.yaml"
        questions.write_text(QUESTIONS)
        images = make_images(folder / "images", arguments.images)
        model = save_random_checkpoint(folder / "model", **MEDIUM)
        few = folder / "few"
        few.mkdir()
        for path in sorted(images.iterdir())[: arguments.images // 2]:
            os.link(path, few / path.name)
        rates: dict[str, list[float]] = {"ours": [], "bare loop": [], "plain Ray Data": []}
        for turn in range(arguments.rounds):
            output = folder / f"run{turn}"
            flags = ["--attributes", str(questions), "--workers.max-actors", str(arguments.cores)]
            flags += ["--ray.object-store-mb", "200", "--workers.block-rows", "64"]
            finish(start_label(images, output, model, *flags), output)
            rates["ours"].append(steady_rate(output))
            rates["bare loop"].append(bare_rate(model, images, arguments.cores))
            rates["plain Ray Data"].append(plain_rate(model, few, folder / f"plain{turn}", arguments.cores))
            print({name: round(values[-1], 1) for name, values in rates.items()}, flush=True)
    ours = statistics.median(rates["ours"])
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{name:16} {middle:8.1f} images/s   ours / {name} = {ours / middle:.2f}")


# --- memory -----------------------------------------------------------------------------------------------------------


class MemoryPeak(threading.Thread):
    """Peak of the proportional memory (shared pages counted once) of a process and all below it, and of the driver."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.total_bytes, self.driver_bytes, self.done = pid, 0, 0, threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.3):
            sizes = {pid: _pss(pid) for pid in _tree(self.pid)}
            self.total_bytes = max(self.total_bytes, sum(sizes.values()))
            self.driver_bytes = max(self.driver_bytes, sizes.get(self.pid, 0))


def _tree(pid: int) -> set[int]:
    found, pending = set(), [pid]
    while pending:
        each = pending.pop()
        found.add(each)
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                pending += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def bench_memory(arguments: argparse.Namespace) -> None:
    peaks = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = save_random_checkpoint(folder / "model", **SMALL)
        for count in (2_000, 20_000):
            images = make_images(folder / f"images{count}", count, size_px=112)
            output = folder / f"run{count}"
            process = start_label(images, output, model, "--ray.object-store-mb", "300", "--workers.block-rows", "128")
            peak = MemoryPeak(process.pid)
            peak.start()
            finish(process, output)
            peak.done.set()
            peaks[count] = peak.total_bytes
            print(
                f"{count:6} images: {peak.total_bytes / 1e6:7.0f} MB in all, driver {peak.driver_bytes / 1e6:.0f} MB",
                flush=True,
            )
    print(f"growth from 2,000 to 20,000 images: {peaks[20_000] / peaks[2_000] - 1:+.1%}")


# --- resume -----------------------------------------------------------------------------------------------------------


def bench_resume(arguments: argparse.Namespace) -> None:
    """A run of which 1,000,000 rows are committed, against a fresh run of the same rest."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = save_random_checkpoint(folder / "model", **SMALL)
        rest = 512
        images = make_images(folder / "images", rest, size_px=112)
        names = [path.name for path in sorted(images.iterdir())]
        committed = [f"done/{number:07d}.jpg" for number in range(arguments.rows)]
        for name, uris in (("fresh", names), ("resumed", committed + names)):
            pq.write_table(pa.table({"uri": uris}), images / f"{name}.parquet")
        print("preparing the committed rows ...", flush=True)
        _commit_rows(images / "resumed.parquet", folder / "resumed0", model, arguments.rows)
        seconds: dict[str, list[float]] = {"fresh": [], "resumed": []}
        for turn in range(arguments.rounds):
            for name, measured in seconds.items():
                output = folder / f"{name}{turn}"
                if name == "resumed" and turn:
                    subprocess.run(["cp", "-al", str(folder / "pristine"), str(output)], check=True)
                elif name == "resumed":
                    subprocess.run(["cp", "-al", str(output), str(folder / "pristine")], check=True)
                before = len(list((output / "labels").glob("shard-*"))) if (output / "labels").exists() else 0
                started = time.perf_counter()
                process = start_label(images / f"{name}.parquet", output, model)
                while len(list((output / "labels").glob("shard-*"))) <= before:
                    time.sleep(0.05)
                measured.append(time.perf_counter() - started)
                finish(process, output)
                print(
                    f"{name}: first shard after {measured[-1]:.1f} s, finished after "
                    f"{time.perf_counter() - started:.1f} s",
                    flush=True,
                )
    fresh, resumed = (statistics.median(seconds[name]) for name in ("fresh", "resumed"))
    print(
        f"fresh {fresh:.1f} s, resumed {resumed:.1f} s: {resumed - fresh:+.1f} s for {arguments.rows:,} committed rows"
    )


def _commit_rows(manifest: Path, output: Path, model: Path, rows: int) -> None:
    """Writes what a run would have committed of its first rows, through the run's own code."""
    from faceattr.config import LabelConfig
    from faceattr.data.plan import read_shards
    from faceattr.jobs import label

    job = label.prepare_label_job(LabelConfig(images=str(manifest), output=str(output), model=str(model)))
    version = label.open_version(job, label.begin_label_run(job))
    work = version.work()
    committer = version.committer(work)
    for part in work.plan.parts:
        table = read_shards(job.output, work.plan, part, work.pending)
        table = table.slice(0, max(0, min(len(table), rows - part.first_row)))
        size = work.plan.shard_size
        table = table.slice(0, len(table) // size * size if part is work.plan.parts[-1] else len(table))
        if not len(table):
            continue
        columns = {
            name: pa.nulls(len(table), field.type)
            for name, field in zip(version.schema.names, version.schema, strict=True)
        }
        columns |= {name: table[name] for name in ("row", "image_id", "uri")}
        columns["status"] = pa.array(["ok"] * len(table))
        committer.add(pa.table(columns, schema=version.schema))


# --- scaling ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SleepingScorer:
    """Takes a fixed time an image and no CPU, as a GPU would."""

    seconds_per_image: float
    image_size_px: int = 96
    num_answers: int = 18

    def __call__(self) -> "SleepingScorer":
        return self

    def score(self, images: np.ndarray) -> np.ndarray:
        time.sleep(self.seconds_per_image * len(images))
        return np.full((len(images), self.num_answers), -1.0, np.float32)


def bench_scaling(arguments: argparse.Namespace) -> None:
    import ray

    from faceattr.config import LabelConfig
    from faceattr.data.images import ImageLimits
    from faceattr.jobs import label
    from faceattr.jobs.session import ActorPlan
    from faceattr.jobs.stream import ImageStream, stream_rows
    from faceattr.jobs.vqa_actor import VqaActor

    ray.init(address="local", num_cpus=8, num_gpus=8, include_dashboard=False, log_to_driver=False)
    rates = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = make_images(folder / "images", 6_000, size_px=112)
        for actors in (1, 2, 4, 8):
            count = 700 * actors
            config = LabelConfig(images=str(images), output=str(folder / f"run{actors}"), model="tiny", limit=count)
            job = label.prepare_label_job(config)
            version = label.open_version(job, label.begin_label_run(job))
            stream = stream_rows(
                version.work(),
                ImageStream(
                    run_uri=job.output.uri,
                    root=str(images),
                    bytes_column=None,
                    storage=job.storage,
                    limits=ImageLimits(),
                    decode_timeout_s=30,
                    size_px=96,
                ),
                actor=VqaActor,
                actor_kwargs={
                    "build_scorer": SleepingScorer(arguments.milliseconds / 1000),
                    "questions": job.questions,
                    "schema": version.schema,
                },
                actors=ActorPlan(min_actors=actors, max_actors=actors, gpus=1, cpus=0, threads=1, batch_size=64),
                block_rows=32,
                wait_s=120,
                name=f"scaling_{actors}",
            )
            # The first and the last blocks come while not all actors work; the middle is the steady state.
            arrivals, total = [], 0
            for table in stream:
                total += len(table)
                arrivals.append((time.perf_counter(), total))
            low, high = (next(each for each in arrivals if each[1] >= share * count) for share in (0.25, 0.85))
            rates[actors] = (high[1] - low[1]) / (high[0] - low[0])
            share = rates[actors] / (actors * 1000 / arguments.milliseconds)
            print(f"{actors} actors: {rates[actors]:7.1f} images/s, {share:.1%} of what their sleep allows", flush=True)
    for actors, rate in rates.items():
        print(f"{actors} actors: {rate / (actors * rates[1]):.1%} of linear")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rates", "memory", "resume", "scaling"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--milliseconds", type=float, default=20.0)
    arguments = parser.parse_args()
    {"rates": bench_rates, "memory": bench_memory, "resume": bench_resume, "scaling": bench_scaling}[arguments.what](
        arguments
    )


if __name__ == "__main__":
    main()
