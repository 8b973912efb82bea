"""Jobs as an operator runs them: a real head with token authentication, `ray job submit`, stop, a lost node, metrics.

Two nodes with one logical GPU each; everything is submitted from outside of the cluster, as cluster/README.md says.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from faceattr.cli import main as faceattr
from faceattr.data.runs.version import read_manifest, read_published
from faceattr.data.stores.open import open_store
from faceattr.demo.faces import write_faces
from faceattr.demo.store import serve_s3
from faceattr.watch.metrics import METRICS, RAY_METRICS
from tests.cluster.local_head import ROOT, local_head
from tests.conftest import environment
from tests.processes import descendants
from tests.watch.exported import metrics_of

pytestmark = [pytest.mark.ray, pytest.mark.fault, pytest.mark.timeout(1500)]
NUM_IMAGES, NUM_BROKEN, NUM_SHARDS = 1_530, 6, 6
SUBMIT = ("submit", "--working-dir", ".", "--runtime-env", "cluster/runtime-env.yaml")
FLAGS = ("--model", "tiny", "--workers.max-actors", "2", "--workers.gpus-per-actor", "1", "--workers.block-rows", "32")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A store with images; its environment holds a secret that stands nowhere else in the world."""
    with serve_s3(tmp_path_factory.mktemp("s3")) as s3, environment(s3.environment):
        folder = tmp_path_factory.mktemp("faces")
        write_faces(folder, 90, 3_000_000)
        faces = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
        store = open_store(f"s3://{s3.bucket}/raw")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: store.put(f"{n:05d}.jpg", faces[n % len(faces)]), range(NUM_IMAGES)))
        for number in range(NUM_BROKEN):
            store.put(f"broken/{number}.jpg", b"<html>")
        yield s3


@pytest.fixture(scope="module")
def head(bucket):
    with local_head(bucket.environment, num_cpus=2, num_gpus=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def second_node(head):
    return head.add_node(num_cpus=1, num_gpus=1)


def label_words(name: str) -> list[str]:
    return ["--", "pipelines/label.py", "--images", "s3://faces/raw/", "--output", f"s3://faces/labels/{name}", *FLAGS]


def status_of(head, job: str) -> str:
    return head.get(f"/api/jobs/{job}")["status"]


def wait_for_commits(head, job: str, run, count: int) -> None:
    """Returns when some shards are committed and others are not."""
    give_up_at = time.monotonic() + 400
    while num_committed(run) < count:
        assert status_of(head, job) in {"PENDING", "RUNNING"}, head.job("logs", job).stdout[-3000:]
        assert time.monotonic() < give_up_at, head.job("logs", job).stdout[-3000:]
        time.sleep(0.2)
    assert num_committed(run) < NUM_SHARDS


def num_committed(run) -> int:
    return sum(1 for entry in run.list("labels/") if entry.key.startswith("labels/shard-"))


def check_table(run) -> None:
    table = pa.concat_tables(read_published(run))
    assert table["row"].to_pylist() == list(range(NUM_IMAGES + NUM_BROKEN))
    assert read_manifest(run).status_counts == {"not_an_image": NUM_BROKEN, "ok": NUM_IMAGES}


def exported(text: str) -> set[str]:
    """Names of the samples in what a node exports."""
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


def alive_by_the_metrics(text: str) -> set[float]:
    """How many nodes there are, as the nodes' metrics have it."""
    return {
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ray_local_resource_view_node_count"
    }


def test_nobody_without_the_token_gets_in(head):
    for token in ("", "wrong"):
        with pytest.raises(urllib.error.HTTPError, match=r"40[13]"):
            head.get("/api/jobs/", token=token)
    stranger = head.environment() | {"RAY_API_SERVER_ADDRESS": head.api, "RAY_AUTH_TOKEN": "0" * 64}
    command = ["ray", "job", "submit", "--", "true"]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, env=stranger, timeout=120)
    assert finished.returncode != 0
    assert head.get("/api/jobs/") == []
    # The dashboard and the job API answer on loopback alone.
    assert head.api.startswith("http://127.0.0.1:")


def test_a_job_is_stopped_half_way_and_submitted_again(head, bucket, second_node, capsys):
    run = open_store("s3://faces/labels/stopped")
    submitted = head.job(*SUBMIT, "--submission-id", "first", "--no-wait", *label_words("stopped"))
    assert submitted.returncode == 0, submitted.stderr
    wait_for_commits(head, "first", run, 1)
    arguments = [b" ".join(line) for line in command_lines(head)]
    assert any(b"pipelines/label.py" in line for line in arguments)
    assert faceattr(["status", run.uri]) == 0
    assert "state      running by process" in capsys.readouterr().out

    stopped = head.job("stop", "first")
    assert stopped.returncode == 0, stopped.stderr
    assert status_of(head, "first") == "STOPPED"
    assert "whole shards and epochs stay" in head.job("logs", "first").stdout
    committed = {entry.key: entry.etag for entry in run.list("labels/")}
    assert 0 < len(committed) < NUM_SHARDS
    assert read_manifest(run) is None
    assert faceattr(["status", run.uri]) == 0
    assert "state      stopped" in capsys.readouterr().out

    # Without --no-wait the command follows the log to the end. Without --working-dir the image's code is used.
    again = head.job("submit", "--submission-id", "second", *label_words("stopped"))
    assert again.returncode == 0, again.stdout[-3000:]
    assert "published version 1: 1,536 rows in 6 files" in again.stdout
    check_table(run)
    after = {entry.key: entry.etag for entry in run.list("labels/")}
    assert {key: after[key] for key in committed} == committed  # not done again
    jobs = {job["submission_id"]: job["status"] for job in head.get("/api/jobs/") if job["submission_id"]}
    assert jobs == {"first": "STOPPED", "second": "SUCCEEDED"}

    secret = bucket.environment["AWS_SECRET_ACCESS_KEY"].encode()
    check_secret_is_nowhere(head, run, arguments, [again.stdout, again.stderr, submitted.stdout], secret)


def command_lines(head) -> list[list[bytes]]:
    lines = []
    for node in head.nodes:
        for pid in descendants(node.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    return lines


def check_secret_is_nowhere(head, run, arguments: list[bytes], shown: list[str], secret: bytes) -> None:
    """Run folder, logs, job metadata, process arguments, what the commands printed, and all that Ray wrote."""
    assert len(secret) == 32
    objects = list(run.list())
    assert {"run.json", "report.html", "_manifest.json"} <= {entry.key for entry in objects}
    for entry in objects:
        assert secret not in run.get(entry.key), entry.key
    assert not [line for line in arguments if secret in line]
    for text in [
        *shown,
        json.dumps(head.get("/api/jobs/")),
        head.job("list").stdout,
        head.job("logs", "second").stdout,
    ]:
        assert secret.decode() not in text
    assert secret.decode() not in head.metrics()
    logs = [path for path in head.home.parent.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name.startswith("job-driver-second") for path in logs)
    for path in logs:
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            assert secret not in file.read(), path


TINY = ("model.backbone=test_vit", "model.pretrained=false", "model.image_size=32", "optim.epochs=2")


def test_labels_are_packed_trained_on_and_searched(head, second_node):
    """The other jobs, submitted in the same way; their metrics are looked for while they run."""
    pack = ["pipelines/pack.py", "--labels", "s3://faces/labels/stopped", "--output", "s3://faces/packed/run1"]
    packed = head.job("submit", "--submission-id", "pack", "--", *pack, "--limit", "240")
    assert packed.returncode == 0, packed.stdout[-3000:]
    assert read_manifest(open_store("s3://faces/packed/run1")).num_rows == 240

    network = ["--model.backbone", "test_vit", "--model.no-pretrained", "--model.image-size", "32"]
    train = ["pipelines/train.py", "--data", "s3://faces/packed/run1", "--output", "s3://faces/models/run1", *network]
    train += ["--optim.epochs", "3", "--feed.batch-size", "16", "--workers.num-workers", "2", "--workers.wait-s", "300"]
    train += ["--workers.use-gpu", "--workers.backend", "gloo"]  # each node has one GPU, so a worker on each
    assert submit_and_watch(head, "train", train) >= {name for each in metrics_of(["train"]) for name in each.series}
    model = open_store("s3://faces/models/run1")
    assert {"config.json", "model.safetensors", "metrics.jsonl"} <= {entry.key for entry in model.list()}

    search = ["tune/search.py", "--data", "s3://faces/packed/run1", "--output", "s3://faces/search/run1"]
    search += ["--num-samples", "3", "--trials.gpus", "1", "--trials.cpus", "0.5", "--trials.stack", "off"]
    search += ["--set", *TINY, "feed.batch_size=16"]
    assert submit_and_watch(head, "search", search) >= {name for each in metrics_of(["search"]) for name in each.series}
    found = {entry.key for entry in open_store("s3://faces/search/run1").list()}
    assert {"best.yaml", "trials.parquet", "report.html"} <= found


def submit_and_watch(head, job: str, words: list[str]) -> set[str]:
    """Names of all metrics that were exported while a job ran; it must succeed."""
    submitted = head.job("submit", "--submission-id", job, "--no-wait", "--", *words)
    assert submitted.returncode == 0, submitted.stderr
    seen: set[str] = set()
    give_up_at = time.monotonic() + 600
    while status_of(head, job) in {"PENDING", "RUNNING"}:
        assert time.monotonic() < give_up_at, head.job("logs", job).stdout[-3000:]
        seen |= exported(head.metrics())
        time.sleep(2)
    assert status_of(head, job) == "SUCCEEDED", head.job("logs", job).stdout[-4000:]
    return seen


def probe(head, node: int) -> bool:
    """What the liveness probe of a pod in cluster/kuberay says of a node, for its command as it stands there."""
    spec = yaml.safe_load((ROOT / "cluster" / "kuberay" / "raycluster.yaml").read_text())["spec"]
    group = spec["headGroupSpec"] if node == 0 else spec["workerGroupSpecs"][0]
    command = group["template"]["spec"]["containers"][0]["livenessProbe"]["exec"]["command"]
    ours = {"127.0.0.1:6379": head.address, "127.0.0.1:52365": f"127.0.0.1:{head.agent_ports[node]}"}
    for theirs, here in ours.items():
        command = [word.replace(theirs, here) for word in command]
    assert command != group["template"]["spec"]["containers"][0]["livenessProbe"]["exec"]["command"]
    # As in a pod: the token is in the environment.
    found = subprocess.run(command, check=False, capture_output=True, env=head.environment(), timeout=60)
    return found.returncode == 0


def test_a_node_is_lost_and_the_table_is_whole(head, second_node):
    run = open_store("s3://faces/labels/lost")
    submitted = head.job("submit", "--submission-id", "third", "--no-wait", *label_words("lost"))
    assert submitted.returncode == 0, submitted.stderr
    wait_for_commits(head, "third", run, 1)
    give_up_at = time.monotonic() + 60
    wanted = {name for metric in metrics_of(["label"]) for name in metric.series} | set(RAY_METRICS)
    missing = wanted
    while missing and time.monotonic() < give_up_at and status_of(head, "third") == "RUNNING":
        text = head.metrics()
        missing = wanted - exported(text)
        before = alive_by_the_metrics(text)
        time.sleep(1)
    assert missing == set()
    assert before == {2.0}
    assert probe(head, 0)
    assert probe(head, 1)

    head.kill_node(second_node)
    assert not probe(head, 1)
    assert probe(head, 0)
    head.wait_for(lambda: head.num_alive() == 1, 120, "the loss of the node on the dashboard")
    head.wait_for(lambda: alive_by_the_metrics(head.metrics()) == {1.0}, 120, "the loss of the node in the metrics")
    head.wait_for(lambda: status_of(head, "third") not in {"PENDING", "RUNNING"}, 600, "the job's end")
    assert status_of(head, "third") == "SUCCEEDED", head.job("logs", "third").stdout[-3000:]
    check_table(run)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert faceattr(["status", run.uri]) == 0
    assert "state      published" in shown.getvalue()
    assert f"not_an_image {NUM_BROKEN}" in shown.getvalue()


def test_the_commands_of_the_readme_are_these():
    text = (ROOT / "cluster" / "README.md").read_text()
    assert " ".join(["ray", "job", *SUBMIT]) in text
    for words in ("ray job stop", "ray job logs", "ray job list", "faceattr status"):
        assert words in text
    assert {metric.exported for metric in METRICS if metric.kind != "histogram"} <= set(
        re.findall(r"ray_faceattr_\w+", text)
    )
    assert os.access(ROOT / "pipelines" / "label.py", os.X_OK)
