"""Requests a second and latencies of `faceattr serve` against `predict_batch`, on the same cores, in one run, in turns.

    predict_batch   faceattr's Python API, one process that has all files: what the server cannot be faster than
    N clients       threads that each send one image and wait for its answer, over kept connections

The same model, files, cores and decoding for both. A replica of one thread for each core, as `faceattr serve` chooses;
one client keeps only one of them busy, and one replica with all threads answers it sooner, but many clients later;
the clients run on these cores too, and count against the server. Weights are random: speed does not depend on them.

    python tests/benchmarks/bench_serve.py --backbone vit-small
    python tests/benchmarks/bench_serve.py --backbone resnet18 --side 1024
    python tests/benchmarks/bench_serve.py --replicas 1 --clients 1
"""

import argparse
import http.client
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

import faceattr
from faceattr.models.backbones.names import build_backbone
from faceattr.models.multitask import MultiAttributeModel
from tests.benchmarks.bench_predict import ATTRIBUTES, BACKBONES, make_images
from tests.benchmarks.ratios import tell_ratio

ROOT = Path(__file__).parents[2]


class Server:
    """`faceattr serve` in processes of its own."""

    def __init__(self, model: Path, folder: Path, cores: int, replicas: int, batch_size: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        words = ["serve", str(model), "--port", str(self.port), "--replicas", str(replicas), "--gpus-per-replica", "0"]
        words += ["--threads-per-replica", str(cores // replicas)]
        words += ["--batch-size", str(batch_size), "--ray.num-cpus", str(cores), "--ray.object-store-mb", "200"]
        log = folder / "log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faceattr", *words],
                stdout=file,
                stderr=file,
                env={**os.environ, "RAY_TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
            )
        while "answers at" not in log.read_text():
            if self._process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def ask(self, images: list[bytes], num_clients: int) -> tuple[float, list[float]]:
        """Sends every image once; returns requests a second and the seconds of each."""
        numbers, seconds, lock = iter(range(len(images))), [], threading.Lock()

        def work() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return connection.close()
                started = time.perf_counter()
                connection.request("POST", "/predict", images[number], {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                text = answer.read()
                seconds.append(time.perf_counter() - started)
                if answer.status != 200 or b'"attributes"' not in text:
                    raise SystemExit(f"{answer.status}: {text!r}")

        threads = [threading.Thread(target=work) for _ in range(num_clients)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(images) / (time.perf_counter() - started), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=BACKBONES, default="vit-small")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--replicas", type=int, help="which share the cores; one for each core unless given")
    parser.add_argument("--images", type=int, default=192, help="of a turn; a single client sends a quarter of them")
    parser.add_argument("--side", type=int, default=224, help="of the files, px")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.cores)
    with tempfile.TemporaryDirectory(prefix="fa-") as scratch:
        folder = Path(scratch)
        paths = make_images(folder / "images", arguments.images, arguments.side)
        images = [path.read_bytes() for path in paths]
        torch.manual_seed(0)
        model = MultiAttributeModel(build_backbone(BACKBONES[arguments.backbone][0], pretrained=False), ATTRIBUTES)
        model.eval().save_pretrained(folder / "model")
        server = Server(
            folder / "model", folder, arguments.cores, arguments.replicas or arguments.cores, arguments.batch_size
        )

        def batch_rate() -> float:
            started = time.perf_counter()
            faceattr.predict_batch([str(path) for path in paths], model, batch_size=arguments.batch_size)
            return len(paths) / (time.perf_counter() - started)

        batch_rate(), server.ask(images[:64], 32)  # warm: first calls choose kernels
        ratios: dict[int, list[float]] = {num: [] for num in arguments.clients}
        rates: dict[int, list[float]] = {num: [] for num in arguments.clients}
        seconds: dict[int, list[float]] = {num: [] for num in arguments.clients}
        plain: list[float] = []
        for _ in range(arguments.rounds):
            for num in arguments.clients:
                sent = images if num > 1 else images[: len(images) // 4]
                before = batch_rate()
                rate, taken = server.ask(sent, num)
                after = batch_rate()
                plain += [before, after]
                rates[num].append(rate)
                seconds[num] += taken
                ratios[num].append(rate / statistics.mean([before, after]))
                print(f"{num} clients: {rate:.1f}, predict_batch {before:.1f} and {after:.1f} images/s", flush=True)
        server.close()
    print(f"predict_batch {statistics.median(plain):6.1f} images/s, {arguments.backbone}, {arguments.cores} cores")
    for num in arguments.clients:
        middle, last = np.quantile(seconds[num], [0.5, 0.99]) * 1_000
        print(
            f"{num:2d} clients    {statistics.median(rates[num]):6.1f} requests/s, ratio "
            f"{statistics.median(ratios[num]):.2f}, p50 {middle:.0f} ms, p99 {last:.0f} ms"
        )
        tell_ratio(f"serve.{num}_clients.predict_batch", statistics.median(ratios[num]))


if __name__ == "__main__":
    main()
