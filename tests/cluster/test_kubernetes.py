"""Every manifest in cluster/kuberay/ against KubeRay's and Kubernetes' schemas, offline; and what none of them says."""

import gzip
import json
import pkgutil
import runpy
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from faceattr.cli import parse_config
from faceattr.config import LabelConfig
from faceattr.config.search import SearchConfig
from faceattr.config.serving.serve import ServeConfig
from faceattr.config.train import TrainConfig
from faceattr.jobs.serve.arguments import read_arguments
from faceattr.jobs.serve.http.bearer import TOKEN_VARIABLE

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "kuberay"
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = "1.34"


def documents() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{path.name}:{document['kind']}/{document['metadata']['name']}", document)
        for path in sorted(FOLDER.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
    ]


DOCUMENTS = documents()
RAY = [pytest.param(each, id=name) for name, each in DOCUMENTS if each["apiVersion"].startswith("ray.io/")]
JOBS = [each for each in RAY if each.values[0]["kind"] in ("RayJob", "RayCronJob")]
OWN = [pytest.param(each, id=name) for name, each in DOCUMENTS if not each["apiVersion"].startswith("ray.io/")]


def strict_schema(kind: str) -> dict[str, Any]:
    """KubeRay's schema; as `kubectl --validate=strict` does, a field that it does not name is an error."""
    return _closed(json.loads(gzip.decompress((SCHEMAS / f"{kind}.json.gz").read_bytes())))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict) and schema.get("type") == "object":
        # The root leaves metadata to the API server.
        closed.setdefault("additionalProperties", False)
    return closed


def ray_cluster(document: dict[str, Any]) -> dict[str, Any]:
    spec = document["spec"]
    return {
        "RayCluster": spec,
        "RayJob": spec.get("rayClusterSpec"),
        "RayCronJob": spec.get("jobTemplate", {}).get("rayClusterSpec"),
        "RayService": spec.get("rayClusterConfig"),
    }[document["kind"]]


def pods(document: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = ray_cluster(document)
    found = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    job = document["spec"].get("jobTemplate", document["spec"])
    submitter = [job["submitterPodTemplate"]] if "submitterPodTemplate" in job else []
    return [each["template"] for each in found] + submitter


@pytest.mark.parametrize("document", RAY)
def test_ray_resources_fit_kuberays_schema(document):
    jsonschema.Draft202012Validator(strict_schema(document["kind"])).validate(document)


def test_the_schema_refuses_what_kuberay_would():
    (cluster,) = [each for _, each in DOCUMENTS if each["kind"] == "RayCluster"]
    validator = jsonschema.Draft202012Validator(strict_schema("RayCluster"))
    misspelt = json.loads(json.dumps(cluster))
    misspelt["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    assert ["maxReplica" in error.message for error in validator.iter_errors(misspelt)] == [True]
    wrong = json.loads(json.dumps(cluster))
    wrong["spec"]["authOptions"]["mode"] = "password"
    assert [list(error.path) for error in validator.iter_errors(wrong)] == [["spec", "authOptions", "mode"]]


@pytest.mark.parametrize("document", OWN)
def test_other_resources_fit_kubernetes_schema(document):
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("document", RAY)
def test_pods_fit_kubernetes_schema(document):
    for template in pods(document):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_jobs_are_written_from_the_cluster():
    for name, text in runpy.run_path(str(FOLDER / "render.py"))["render"]().items():
        assert (FOLDER / name).read_text() == text, f"{name} is old: python cluster/kuberay/render.py"


@pytest.mark.parametrize("document", RAY)
def test_what_a_cluster_must_have(document):
    cluster = ray_cluster(document)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert set(groups) == {"cpu", "gpu"}
    assert {group["minReplicas"] for group in groups.values()} == {0}
    gpu = groups["gpu"]["template"]["spec"]
    assert {each["key"] for each in gpu["tolerations"]} == {"nvidia.com/gpu", "karpenter.sh/capacity-type"}
    assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in groups["cpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    for group in [cluster["headGroupSpec"], *groups.values()]:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        shm = next(volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm")
        assert shm["medium"] == "Memory"
        store = int(group["rayStartParams"]["object-store-memory"])
        assert store < gibibytes(shm["sizeLimit"]) < 2 * store
        # What is in shared memory counts as the container's memory.
        assert 2 * store < gibibytes(container["resources"]["limits"]["memory"])
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
        assert container["livenessProbe"]["failureThreshold"] >= 3


def gibibytes(text: str) -> int:
    assert text.endswith("Gi")
    return int(text.removesuffix("Gi")) * 2**30


@pytest.mark.parametrize("document", RAY)
def test_no_pod_holds_a_secret_or_more_rights_than_it_needs(document):
    for template in pods(document):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert not pod.get("hostNetwork", False)
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
            for variable in container.get("env", []):
                assert not any(word in variable["name"] for word in ("SECRET", "KEY", "TOKEN", "PASSWORD"))
    workers = ray_cluster(document)["workerGroupSpecs"]
    assert [group["template"]["spec"]["automountServiceAccountToken"] for group in workers] == [False, False]


def test_the_dashboard_is_reached_by_submitters_and_the_operator_alone():
    policies = {each["metadata"]["name"]: each["spec"] for _, each in DOCUMENTS if each["kind"] == "NetworkPolicy"}
    ray = policies["faceattr-ray"]
    assert ray["podSelector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}
    assert set(ray["policyTypes"]) == {"Ingress", "Egress"}
    everyone = [rule for rule in ray["ingress"] if not rule.get("from")]
    assert everyone == []
    reached = [rule for rule in ray["ingress"] if {"protocol": "TCP", "port": 8265} in rule.get("ports", [])]
    assert [list(source) for source in reached[0]["from"]] == [["podSelector"], ["namespaceSelector"]]
    assert len(reached) == 1
    for document in [each.values[0] for each in JOBS]:
        job = document["spec"].get("jobTemplate", document["spec"])
        assert job["submitterPodTemplate"]["metadata"]["labels"]["faceattr/role"] == "submitter"


@pytest.mark.parametrize("document", JOBS)
def test_entrypoints_are_commands_that_their_scripts_understand(document):
    job = document["spec"].get("jobTemplate", document["spec"])
    command = job["entrypoint"].rpartition("; ")[2]
    script, *flags = shlex.split(command)
    assert (ROOT / script).stat().st_mode & 0o111, f"{script} is not executable"
    # A pool that grows from nothing: the number of GPUs cannot be read off the cluster, so the command says it.
    match script:
        case "pipelines/label.py":
            config = parse_config(LabelConfig, flags)
            assert config.workers.max_actors
            assert config.workers.gpus_per_actor
        case "pipelines/train.py":
            assert parse_config(TrainConfig, flags).workers.use_gpu
        case "tune/search.py":
            searched = parse_config(SearchConfig, flags).trials
            assert (searched.gpus, searched.max_concurrent) == (1.0, 8)
        case _:
            pytest.fail(f"no config is known for {script}")
    assert yaml.safe_load(job["runtimeEnvYAML"])["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "60"}
    assert job["backoffLimit"] >= 1
    assert job["shutdownAfterJobFinishes"] is True


def test_the_service_is_one_that_serve_and_our_builder_understand():
    from ray.serve.schema import ServeDeploySchema

    (service,) = [each["spec"] for _, each in DOCUMENTS if each["kind"] == "RayService"]
    written = yaml.safe_load(service["serveConfigV2"])
    schema = ServeDeploySchema.model_validate(written)
    # What the schema does not know it ignores.
    assert set(written) <= set(ServeDeploySchema.model_fields)
    (application,) = schema.applications
    assert application.import_path == "faceattr.jobs.serve.application:build_service"
    assert callable(pkgutil.resolve_name(application.import_path))
    config = read_arguments(ServeConfig, application.args)
    assert (config.replicas, config.gpus_per_replica, config.limits.max_queue) == (4, 0.5, 512)
    # The front answers in its own words before the proxy loses patience.
    assert schema.http_options.request_timeout_s > config.limits.timeout_s
    gpus = next(each for each in service["rayClusterConfig"]["workerGroupSpecs"] if each["groupName"] == "gpu")
    assert config.replicas * config.gpus_per_replica <= gpus["maxReplicas"]


def test_the_service_asks_for_a_token_and_its_clients_alone_reach_it():
    (service,) = [each for _, each in DOCUMENTS if each["kind"] == "RayService"]
    assert TOKEN_VARIABLE not in yaml.dump(service)
    for template in pods(service):
        (container,) = template["spec"]["containers"]
        secrets = [each["secretRef"] for each in container["envFrom"]]
        assert [each["name"] for each in secrets] == ["faceattr-store", "faceattr-serve"]
        assert [each.get("optional", False) for each in secrets] == [True, False]
        assert {"name": "serve", "containerPort": 8000} in container["ports"]
    policies = {each["metadata"]["name"]: each["spec"] for _, each in DOCUMENTS if each["kind"] == "NetworkPolicy"}
    (rule,) = [
        each
        for each in policies["faceattr-ray"]["ingress"]
        if {"protocol": "TCP", "port": 8000} in each.get("ports", [])
    ]
    assert rule["from"] == [
        {"podSelector": {"matchLabels": {"faceattr/role": "client"}}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
    ]
