#!/usr/bin/env python
"""Writes the jobs and the service that bring a cluster of their own, from that of raycluster.yaml: `python render.py`.

A job's cluster lives as long as the job. It needs no state that survives its head: a job that loses its head is started
again by `backoffLimit` on a fresh cluster, finds what is committed, and does the rest. A service stays: its cluster
keeps the state of its head, so that replicas answer on while a head is replaced.
"""

import copy
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
HEADER = "# Written by render.py from raycluster.yaml; change these and run it again.\n"
# The pool grows from 0: so what an actor takes, and how many there may be, cannot be read off the cluster.
LABEL_WORKERS = "--workers.gpus-per-actor 1 --workers.min-actors 1 --workers.max-actors 8 --workers.wait-s 1800"
JOBS = {
    "label": {
        "comment": "Labels a prefix once.",
        "entrypoint": f"pipelines/label.py --images s3://faces/raw/ --output s3://faces/labels/run1 {LABEL_WORKERS}",
        "gpus": 8,
    },
    "train": {
        "comment": "Trains one model on packed data, on eight GPUs at a time.",
        "entrypoint": "pipelines/train.py --data s3://faces/packed/run1 --output s3://faces/models/run1 "
        "--workers.num-workers 8 --workers.min-workers 2 --workers.use-gpu --workers.wait-s 1800",
        "gpus": 8,
    },
    "search": {
        "comment": "Searches for the best configuration, one GPU a trial.",
        "entrypoint": "tune/search.py --data s3://faces/packed/run1 --output s3://faces/search/run1 "
        "--num-samples 64 --trials.gpus 1 --trials.max-concurrent 8",
        "gpus": 8,
    },
}
NIGHTLY = f"pipelines/label.py --images s3://faces/raw/ --output s3://faces/labels/all --update {LABEL_WORKERS}"
# Two replicas a GPU: one decodes while the other computes. Two GPUs: a lost machine leaves two replicas.
SERVICE = {
    "proxy_location": "EveryNode",
    "http_options": {"host": "0.0.0.0", "port": 8000, "request_timeout_s": 40.0},  # noqa: S104 - of a pod, behind networkpolicy.yaml
    "logging_config": {"log_level": "WARNING", "enable_access_log": False},
    "applications": [
        {
            "name": "faceattr",
            "import_path": "faceattr.jobs.serve.application:build_service",
            "route_prefix": "/",
            "args": {
                "model": "s3://faces/models/m1",
                "replicas": 4,
                "gpus_per_replica": 0.5,
                "batch_size": 64,
                "batch_wait_ms": 5.0,
                "limits": {"max_queue": 512, "timeout_s": 30.0},
            },
        }
    ],
}


class _Plain(yaml.SafeDumper):
    """Writes no anchors: kubectl reads them, people do not."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def job_spec(cluster: dict[str, Any], entrypoint: str, gpus: int) -> dict[str, Any]:
    """The spec of a RayJob."""
    own = copy.deepcopy(cluster["spec"])
    del own["gcsFaultToleranceOptions"]
    (gpu_group,) = [group for group in own["workerGroupSpecs"] if group["groupName"] == "gpu"]
    gpu_group["maxReplicas"] = gpus
    head = own["headGroupSpec"]["template"]["spec"]["containers"][0]
    return {
        "entrypoint": entrypoint,
        # The code is the image's. A driver that is asked to stop gets a minute to put things down.
        "runtimeEnvYAML": "env_vars:\n  RAY_JOB_STOP_WAIT_TIME_S: '60'\n",
        "submissionMode": "K8sJobMode",
        "submitterPodTemplate": {
            "metadata": {"labels": {"app": "faceattr", "faceattr/role": "submitter"}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "securityContext": own["headGroupSpec"]["template"]["spec"]["securityContext"],
                "containers": [
                    {
                        "name": "submitter",
                        "image": head["image"],
                        "securityContext": head["securityContext"],
                        "resources": {
                            "requests": {"cpu": "500m", "memory": "1Gi"},
                            "limits": {"cpu": "1", "memory": "1Gi"},
                        },
                    }
                ],
            },
        },
        "backoffLimit": 5,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": own,
    }


def service_spec(cluster: dict[str, Any]) -> dict[str, Any]:
    """The spec of a RayService."""
    own = copy.deepcopy(cluster["spec"])
    for group in [own["headGroupSpec"], *own["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        # New lists: the containers of raycluster.yaml share theirs.
        container["ports"] = [*container["ports"], {"name": "serve", "containerPort": 8000}]
        # FACEATTR_SERVE_TOKEN, which clients send. Not optional: without it no pod starts, rather than an open server.
        container["envFrom"] = [*container["envFrom"], {"secretRef": {"name": "faceattr-serve"}}]
    return {
        "serveConfigV2": yaml.dump(SERVICE, Dumper=_Plain, sort_keys=False),
        "excludeHeadPodFromServeSvc": True,
        "upgradeStrategy": {"type": "NewCluster"},
        "rayClusterConfig": own,
    }


def render() -> dict[str, str]:
    """File name to text."""
    cluster = yaml.safe_load((FOLDER / "raycluster.yaml").read_text())
    files = {}
    for name, job in JOBS.items():
        resource = {
            "apiVersion": "ray.io/v1",
            "kind": "RayJob",
            "metadata": {"name": f"faceattr-{name}", "namespace": "faceattr"},
            "spec": job_spec(cluster, str(job["entrypoint"]), int(job["gpus"])),
        }
        files[f"rayjob-{name}.yaml"] = _text(resource, str(job["comment"]))
    nightly = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCronJob",
        "metadata": {"name": "faceattr-label-nightly", "namespace": "faceattr"},
        "spec": {
            "schedule": "0 2 * * *",
            "timeZone": "Etc/UTC",
            "suspend": False,
            "jobTemplate": job_spec(cluster, NIGHTLY, 4),
        },
    }
    service = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "faceattr", "namespace": "faceattr"},
        "spec": service_spec(cluster),
    }
    files["rayservice.yaml"] = _text(service, "Answers images over HTTP with a trained model's predictions.")
    comment = "Labels each night the images that are new or have changed, and publishes one table of all (--update)."
    return files | {"raycronjob-label.yaml": _text(nightly, comment)}


def _text(resource: dict[str, Any], comment: str) -> str:
    return f"# {comment}\n{HEADER}" + yaml.dump(resource, Dumper=_Plain, sort_keys=False, width=110)


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # A config file inside this one is read line by line; short texts stay as they are.
    lines = text.count("\n") > 2
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if lines else None)


_Plain.add_representer(str, _write_text)


def main() -> int:
    """Writes the files beside this one."""
    for name, text in render().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
