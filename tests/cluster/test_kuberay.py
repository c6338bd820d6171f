"""The manifests, held to the fields that KubeRay's definitions have, and to what our own code makes of them."""

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from rlhf_ray.config import check, load
from rlhf_ray.distributed.placement import Machine, lack, plan
from rlhf_ray.runs import RunConfig

from .conftest import ROOT, misspelt, read
from serve.app import COMPACTOR, REWARD, SFT, TUNED, Serving
from serve.keys import check_exposed

FILES = ["kuberay/cluster.yaml", "kuberay/pipeline.yaml", "kuberay/serve.yaml"]
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "kuberay.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return {"RayCluster": spec, "RayJob": spec.get("rayClusterSpec"), "RayService": spec.get("rayClusterConfig")}[
        manifest["kind"]
    ]


def pods_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = cluster_of(manifest)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("name", FILES)
def test_kuberay_knows_every_field(name: str) -> None:
    VALIDATOR.validate(read(name))


@pytest.mark.parametrize("name", FILES)
def test_a_misspelt_field_would_be_noticed(name: str) -> None:
    cases = list(misspelt(read(name)))
    assert len(cases) > 100
    assert [where for where, other in cases if VALIDATOR.is_valid(other)] == []


@pytest.mark.parametrize("name", FILES)
def test_the_cluster_has_a_token_and_our_versions(name: str, project: dict[str, Any]) -> None:
    manifest = read(name)
    cluster = cluster_of(manifest)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == version("ray")
    images = {container["image"] for pod in pods_of(manifest) for container in pod["containers"]}
    assert {image.rpartition(":")[2] for image in images} <= {
        f"{project['version']}-{kind}" for kind in ("cpu", "cuda")
    }


@pytest.mark.parametrize("name", FILES)
def test_nobody_is_root_or_changes_the_code_or_takes_more_than_his_share(name: str) -> None:
    for pod in pods_of(read(name)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 1000
        for container in pod["containers"]:
            locked = container["securityContext"]
            assert locked["readOnlyRootFilesystem"] is True
            assert locked["allowPrivilegeEscalation"] is False
            assert locked["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert container["readinessProbe"]["httpGet"] and container["livenessProbe"]["httpGet"]


@pytest.mark.parametrize("name", FILES)
def test_runs_lie_on_the_shared_volume_and_ray_may_write_where_it_must(name: str) -> None:
    claim = read("kuberay/volume.yaml")
    assert (claim["kind"], claim["spec"]["accessModes"]) == ("PersistentVolumeClaim", ["ReadWriteMany"])
    for pod in pods_of(read(name)):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["runs"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert {"/runs", "/tmp", "/home/ray", "/dev/shm"} <= mounts.keys()  # noqa: S108  (in the pod)
        assert set(mounts.values()) == volumes.keys()


@pytest.mark.parametrize("name", ["kuberay/cluster.yaml", "kuberay/pipeline.yaml"])
def test_gpus_are_asked_for_where_the_work_is_and_cost_nothing_otherwise(name: str) -> None:
    for group in cluster_of(read(name))["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert group["minReplicas"] == group["replicas"] == 0
        assert group["labels"] == {"role": group["groupName"]}
    head = pods_of(read(name))[0]["containers"][0]
    assert "nvidia.com/gpu" not in head["resources"]["limits"]


def test_the_job_is_one_that_its_groups_have_room_for() -> None:
    spec = read("kuberay/pipeline.yaml")["spec"]
    python, flag, module, path, *words = shlex.split(spec["entrypoint"])
    assert (python, flag, module) == ("python", "-m", "jobs.pipeline")
    assert path.startswith("/opt/rlhf_ray/"), "where the Dockerfile puts the configs"
    config = load(RunConfig, ROOT / path.removeprefix("/opt/rlhf_ray/"), words)
    assert config.run_folder.is_relative_to("/runs")
    assert config.cluster.grows
    grown = []
    for group in spec["rayClusterSpec"]["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        has = {"CPU": float(limits["cpu"]), "GPU": float(limits["nvidia.com/gpu"])}
        grown += [Machine("", group["groupName"], has, group["labels"])] * group["maxReplicas"]
    assert lack(plan(config, config.cluster, grown), grown) is None


def test_what_is_served_is_what_serve_and_our_own_doors_take() -> None:
    manifest = read("kuberay/serve.yaml")
    schema = ServeDeploySchema.model_validate(yaml.safe_load(manifest["spec"]["serveConfigV2"]))
    (application,) = schema.applications
    serving = check(Serving, application.args, "args")
    assert {deployment.name for deployment in application.deployments} == {"doors", TUNED, SFT, REWARD, COMPACTOR}
    check_exposed(schema.http_options.host, serving.keys)
    for pod in pods_of(manifest):
        mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        assert str(Path(serving.keys).parent) in mounts
        assert serving.run.startswith("/runs/")
        assert mounts["/runs"]["readOnly"], "a server changes no run"
    shipped = ServeDeploySchema.model_validate(yaml.safe_load((ROOT / "configs" / "serve.yaml").read_text("utf-8")))
    assert application.import_path == shipped.applications[0].import_path
    assert serving.generation == check(Serving, shipped.applications[0].args, "args").generation


def test_whoever_touches_the_ledger_sits_in_the_one_pod_that_has_its_disk() -> None:
    manifest, claim = read("kuberay/serve.yaml"), read("kuberay/ledger.yaml")
    assert (claim["kind"], claim["spec"]["accessModes"]) == ("PersistentVolumeClaim", ["ReadWriteOnce"])
    (application,) = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]
    seen = {each["name"]: each["ray_actor_options"]["label_selector"] for each in application["deployments"]}
    assert seen["doors"] == seen[COMPACTOR] == {"role": "doors"}
    assert {tuple(labels.items()) for labels in seen.values()} == {(("role", "doors"),), (("role", "models"),)}
    groups = {group["labels"]["role"]: group for group in cluster_of(manifest)["workerGroupSpecs"]}
    assert groups.keys() == {"doors", "models"}
    assert groups["doors"]["minReplicas"] == groups["doors"]["maxReplicas"] == 1
    assert manifest["spec"]["upgradeStrategy"] == {"type": "None"}, "a second pod would wait for the disk for ever"
    for pod in pods_of(manifest):
        (container,) = pod["containers"]
        claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in pod["volumes"]}
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        has_ledger = pod is groups["doors"]["template"]["spec"]
        assert (
            (claim["metadata"]["name"] in claims)
            == (str(Path(application["args"]["ledger"]).parent) in mounts)
            == has_ledger
        )


def test_the_doors_pod_has_room_for_all_that_sit_there() -> None:
    manifest = read("kuberay/serve.yaml")
    (application,) = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]
    for group in cluster_of(manifest)["workerGroupSpecs"]:
        room = group["maxReplicas"] * float(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
        most = [
            each["ray_actor_options"]["num_cpus"] * each.get("autoscaling_config", {"max_replicas": 1})["max_replicas"]
            for each in application["deployments"]
            if each["ray_actor_options"]["label_selector"] == group["labels"]
        ]
        assert sum(most) <= room
