"""Killing a replica of a served model, and its front, under load: what clients are told.

A real server as a user starts it, real signals, and clients that never stop asking.
"""

import contextlib
import io
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import urllib3
from PIL import Image

from faceattr.inference.predictor import Predictor
from tests.models.tiny import ATTRIBUTES, build_model
from tests.processes import descendants

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(600)]
TOKEN = "a-token-for-this-test-alone"
NUM_IMAGES, NUM_CLIENTS = 24, 8
RETRIED = "faceattr_serve_retried_images_total "
REPLICA, FRONT = "ServeReplica:faceattr:ModelReplica", "ServeReplica:faceattr:Front"


class Server:
    """`faceattr serve` in a process of its own."""

    def __init__(self, model: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        words = ["serve", str(model), "--port", self.url.rpartition(":")[2], "--replicas", "2", "--batch-size", "4"]
        words += [
            "--gpus-per-replica",
            "0",
            "--ray.object-store-mb",
            "200",
            "--ray.num-cpus",
            "2",
            "--limits.timeout-s",
            "10",
        ]
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "faceattr", *words],
                stdout=log,
                stderr=log,
                process_group=0,  # as a shell starts it
                env={**os.environ, "FACEATTR_SERVE_TOKEN": TOKEN, "PYTHONPATH": str(Path(__file__).parents[2])},
            )
        self.wait_for(lambda: "answers at" in self.log.read_text(), 300)

    def wait_for(self, holds: Callable[[], bool], seconds: float = 120) -> None:
        give_up_at = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up_at, self.log.read_text()
            time.sleep(0.02)

    def pids(self, name: str) -> list[int]:
        return [pid for pid, command in descendants(self.process.pid).items() if name in command]


class Clients:
    """Threads that send one image after the other.

    Attributes:
        answers: (number of the image, status or None where the connection broke, JSON) in the order of arrival.
    """

    def __init__(self, url: str, images: list[bytes]) -> None:
        self.answers: list[tuple[int, int | None, dict]] = []
        self.asked = itertools.count()
        self._url, self._images = url, images
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(NUM_CLIENTS)]

    def _ask(self) -> None:
        headers = {"Content-Type": "image/png", "Authorization": f"Bearer {TOKEN}"}
        with urllib3.PoolManager(retries=False) as http:
            while not self._stop.is_set():
                number = next(self.asked) % len(self._images)
                status, values = None, {}
                with contextlib.suppress(urllib3.exceptions.HTTPError):
                    answer = http.request(
                        "POST", f"{self._url}/predict?confidence=true", body=self._images[number], headers=headers
                    )
                    status = answer.status
                    with contextlib.suppress(ValueError):
                        values = answer.json()
                self.answers.append((number, status, values))

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model's folder, images, and what the model says of them."""
    folder = tmp_path_factory.mktemp("world")
    model = build_model("vit", folder, ATTRIBUTES).eval()
    model.save_pretrained(folder / "model")
    rng, images = np.random.default_rng(0), []
    for _ in range(NUM_IMAGES):
        # Large, so that the replicas spend longer on a request than the front: one that is stopped then holds some.
        pixels = np.kron(rng.integers(0, 256, (4, 4, 3), np.uint8), np.ones((400, 400, 1), np.uint8))
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        images.append(buffer.getvalue())
    found = Predictor(model, device="cpu").predict(images)
    return folder / "model", images, [each.to_dict(confidence=True) for each in found]


def check_right(answers, expected) -> None:
    """Every answer with status 200 is the one that this image has."""
    for number, status, values in answers:
        if status != 200:
            continue
        assert values["path"] == "-"
        assert list(values["attributes"]) == list(expected[number])
        for name, value in expected[number].items():
            assert values["attributes"][name] == (
                pytest.approx(value, abs=1e-4) if isinstance(value, float | dict) else value
            )


def test_no_request_is_lost_or_answered_wrongly(world, tmp_path):
    model, images, expected = world
    server = Server(model, tmp_path)
    try:
        with Clients(server.url, images) as clients:
            server.wait_for(lambda: len(clients.answers) > 100)
            for _ in range(2):
                victim = server.pids(REPLICA)[0]
                # Stopped first, so that it holds requests when it is killed.
                os.kill(victim, signal.SIGSTOP)
                so_far = len(clients.answers)
                server.wait_for(lambda so_far=so_far: len(clients.answers) > so_far + 20)
                os.kill(victim, signal.SIGKILL)
                server.wait_for(lambda victim=victim: len(set(server.pids(REPLICA)) - {victim}) == 2)
                so_far = len(clients.answers)
                server.wait_for(lambda so_far=so_far: len(clients.answers) > so_far + 100)
        assert len(clients.answers) == next(clients.asked)
        others = [(status, values) for _, status, values in clients.answers if status != 200]
        assert [each for each in others if each[0] != 503 or set(each[1]) != {"error"}] == []
        check_right(clients.answers, expected)
        with urllib3.PoolManager() as http:
            answer = http.request("GET", f"{server.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
            retried = [line for line in answer.data.decode().splitlines() if line.startswith(RETRIED)]
            assert float(retried[0].split()[1]) >= 1

        # The front holds connections: those are broken, or told of an error; no answer is wrong, and it comes back.
        with Clients(server.url, images) as clients:
            server.wait_for(lambda: len(clients.answers) > 50)
            os.kill(server.pids(FRONT)[0], signal.SIGKILL)
            so_far = len(clients.answers)
            server.wait_for(lambda: sum(status == 200 for _, status, _ in clients.answers[so_far:]) > 100)
        assert {status for _, status, _ in clients.answers} <= {200, 500, 503, None}
        check_right(clients.answers, expected)

        left = set(descendants(server.process.pid))
        os.killpg(server.process.pid, signal.SIGINT)  # to the whole group, as a terminal sends it
        assert server.process.wait(timeout=120) == 0
        alive = [pid for pid in left if Path(f"/proc/{pid}").exists()]
        assert [Path(f"/proc/{pid}/cmdline").read_text() for pid in alive] == []
        assert server.log.read_text().splitlines()[-1] == "stopping: requests that have begun are answered"
        logs = [path for path in Path(os.environ["RAY_TMPDIR"]).rglob("*") if path.is_file()]
        assert [path for path in [*logs, server.log] if TOKEN.encode() in path.read_bytes()] == []
    finally:
        server.process.kill()
        server.process.wait()
