"""cluster/: the image, the launcher's file, the Slurm script and the policies of the bucket."""

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from faceattr.data.runs.lease import hold_lease
from faceattr.data.stores.local import LocalStore
from faceattr.data.stores.open import probe_store

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
DOCKERFILE = (CLUSTER / "Dockerfile").read_text()


def tool(name: str) -> str:
    """A tool of the locked environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"{name} is not installed; make setup"
    return found


def test_the_image_follows_hadolints_rules():
    finished = subprocess.run(
        [tool("hadolint"), str(CLUSTER / "Dockerfile")], check=False, capture_output=True, text=True
    )
    assert (finished.returncode, finished.stdout) == (0, "")


@pytest.mark.parametrize("script", ["prune.sh", "slurm.sh"])
def test_shell_scripts_follow_shellchecks_rules(script):
    finished = subprocess.run([tool("shellcheck"), str(CLUSTER / script)], check=False, capture_output=True, text=True)
    assert (finished.returncode, finished.stdout) == (0, "")
    assert (CLUSTER / script).stat().st_mode & 0o111


def test_the_image_is_what_the_commands_expect():
    _, *stages = DOCKERFILE.split("\nFROM ")
    assert len(stages) == 2
    assert len(set(re.findall(r"FROM (python:\S+)", DOCKERFILE))) == 1  # both stages, one version
    assert re.search(r"FROM python:3\.11\.\d+-slim", DOCKERFILE)
    assert DOCKERFILE.count("--require-hashes") == 2
    assert "ARG ACCELERATOR" in stages[0]
    assert re.search(r"^USER 1000:1000$", stages[1], re.MULTILINE)
    workdir = re.search(r"^WORKDIR (\S+)$", stages[1], re.MULTILINE).group(1)
    assert f"/opt/faceattr {workdir}" in stages[1]
    assert "RAY_AUTH_MODE=token" in stages[1]


def test_the_build_context_holds_what_is_copied_and_no_more():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    }
    assert copied - {"."} <= kept
    assert {"faceattr", "pipelines", "pyproject.toml"} <= kept
    assert not kept & {".git", ".venv", "tests", ".env"}


@pytest.mark.parametrize("accelerator", ["cpu", "gpu"])
def test_pruning_leaves_what_runs(tmp_path, accelerator):
    site = tmp_path / "lib" / "python3.11" / "site-packages"
    names = ["torch", "triton", "nvidia/cu13/lib", "nvidia/cudnn/lib", "pytest", "ray", "kubernetes_validate"]
    for name in names:
        (site / name).mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    files = ["nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9", "nvidia/cu13/lib/libcublas.so.13"]
    for name in files:
        (site / name).touch()
    subprocess.run([str(CLUSTER / "prune.sh"), str(tmp_path), accelerator], check=True)
    there = {name for name in [*names, *files] if (site / name).exists()}
    both = {"torch", "ray", "nvidia/cu13/lib", "nvidia/cudnn/lib", "nvidia/cu13/lib/libcublas.so.13"}
    assert there == (both if accelerator == "cpu" else both | {"triton", files[0]})


def test_pruning_refuses_another_accelerator(tmp_path):
    (tmp_path / "bin").mkdir()
    finished = subprocess.run(
        [str(CLUSTER / "prune.sh"), str(tmp_path), "tpu"], check=False, capture_output=True, text=True
    )
    assert finished.returncode == 2
    assert "found tpu" in finished.stderr


def test_the_launchers_file_is_one():
    config = yaml.safe_load((CLUSTER / "aws.yaml").read_text())
    validate_config(prepare_config(config))
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config({**config, "max_worker": 3}))
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    for name in ("cpu", "gpu"):
        assert types[name]["min_workers"] == 0
        assert types[name]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert types["gpu"]["resources"]["GPU"] == 1
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    (start,) = [command for command in config["head_start_ray_commands"] if command.startswith("ray start")]
    assert "--dashboard-host=127.0.0.1" in start


def test_the_slurm_script_protects_its_token():
    script = (CLUSTER / "slurm.sh").read_text()
    assert script.index("umask 077") < script.index("RAY_AUTH_TOKEN_PATH")
    assert "RAY_AUTH_MODE=token" in script
    assert "--dashboard-host=127.0.0.1" in script
    assert "RAY_AUTH_TOKEN=" not in script  # a variable on a command line is seen by every user of the node


def allows(action: str, key: str, prefix: str | None = None) -> bool:
    """Whether the identity policy allows an action on a key of the bucket `faces`, as IAM would decide it."""
    for statement in json.loads((CLUSTER / "iam-policy.json").read_text())["Statement"]:
        assert statement["Effect"] == "Allow"
        actions, resources = (
            value if isinstance(value, list) else [value] for value in (statement["Action"], statement["Resource"])
        )
        arn = "arn:aws:s3:::faces" if action == "s3:ListBucket" else f"arn:aws:s3:::faces/{key}"
        if action not in actions or not any(fnmatch.fnmatchcase(arn, resource) for resource in resources):
            continue
        wanted = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
        if wanted is None or any(fnmatch.fnmatchcase(prefix or "", pattern) for pattern in wanted):
            return True
    return False


class Recorder(LocalStore):
    """A store that notes what S3 would be asked for."""

    def __init__(self, root: Path, prefix: str) -> None:
        super().__init__(root)
        self.prefix = prefix
        self.asked: set[tuple[str, str]] = set()

    def list(self, prefix=""):
        self.asked.add(("s3:ListBucket", self.prefix + prefix))
        return super().list(prefix)

    def get(self, key, *, max_bytes=None):
        self.asked.add(("s3:GetObject", self.prefix + key))
        return super().get(key, max_bytes=max_bytes)

    def put_if_absent(self, key, data):
        self.asked.add(("s3:PutObject", self.prefix + key))
        return super().put_if_absent(key, data)

    def put(self, key, data):
        self.asked.add(("s3:PutObject", self.prefix + key))
        return super().put(key, data)

    def delete(self, key):
        self.asked.add(("s3:DeleteObject", self.prefix + key))
        super().delete(key)


def test_the_role_can_do_what_a_run_does(tmp_path):
    store = Recorder(tmp_path, "labels/run1/")
    probe_store(store)
    for _ in range(2):  # the second driver deletes the first one's lease
        with hold_lease(store, on_lost=lambda error: None):
            store.put_if_absent("run.json", b"{}")
            store.put("plan/0-00000.parquet", b"")
            store.delete("plan/0-00000.parquet")
            store.put_if_absent("labels/shard-00000000.parquet", b"")
            store.get("labels/shard-00000000.parquet")
            store.put("report.html", b"")
    assert {action for action, _ in store.asked} == {"s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
    assert [each for each in store.asked if not allows(*each, prefix=each[1])] == []


def test_the_role_can_do_no_more():
    assert allows("s3:GetObject", "raw/a.jpg")
    assert not allows("s3:PutObject", "raw/a.jpg")
    assert not allows("s3:DeleteObject", "raw/a.jpg")
    assert not allows("s3:DeleteObject", "labels/run1/labels/shard-00000000.parquet")
    assert not allows("s3:DeleteObject", "labels/run1/run.json")
    assert not allows("s3:GetObject", "other/secret.txt")
    assert not allows("s3:ListBucket", "", prefix="other/")
    assert not allows("s3:PutBucketPolicy", "labels/x")


def test_the_bucket_takes_tls_only():
    statements = {each["Sid"]: each for each in json.loads((CLUSTER / "bucket-policy.json").read_text())["Statement"]}
    assert {each["Effect"] for each in statements.values()} == {"Deny"}
    assert statements["TlsOnly"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    shards = statements["ShardsAreNeverOverwritten"]
    assert any(
        fnmatch.fnmatchcase("arn:aws:s3:::faces/labels/run1/labels/shard-00000007.parquet", each)
        for each in shards["Resource"]
    )
    assert not any(
        fnmatch.fnmatchcase("arn:aws:s3:::faces/labels/run1/_lease/00000001.json", each) for each in shards["Resource"]
    )


def test_nothing_in_the_folder_looks_like_a_secret():
    for path in CLUSTER.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not re.search(
                r"AKIA[0-9A-Z]{16}|-----BEGIN|aws_secret_access_key\s*[=:]\s*\S", text, re.IGNORECASE
            ), path
            assert os.environ.get("AWS_SECRET_ACCESS_KEY", "no such word") not in text
