"""What a Docker or Kubernetes worker makes of a run. Neither runs here: templates are held against their schemas."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deployments.deploy import PREFECT_YAML
from flows.server import ServerAddress

FOLDER = PREFECT_YAML.parent / "job-templates"
KINDS = ("docker", "kubernetes")


def read_template(kind: str) -> dict[str, Any]:
    template: dict[str, Any] = json.loads((FOLDER / f"{kind}.json").read_text())
    return template


def placeholders(value: Any) -> set[str]:
    return set(re.findall(r"{{ (\w+) }}", json.dumps(value)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_placeholder_of_a_template_is_a_variable_and_the_other_way_round(kind: str) -> None:
    template = read_template(kind)
    assert placeholders(template["job_configuration"]) == set(template["variables"]["properties"])


@pytest.mark.server
@pytest.mark.parametrize("kind", KINDS)
def test_the_server_takes_a_pool_with_the_template(prefect_server: ServerAddress, kind: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    with get_client(sync_client=True) as client:
        created = client.create_work_pool(
            WorkPoolCreate(name=f"gpu-{kind}", type=kind, base_job_template=read_template(kind))
        )
        try:
            assert created.type == kind and created.base_job_template == read_template(kind)
        finally:
            client.delete_work_pool(created.name)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def configured(configuration: Any, kind: str, **values: Any) -> Any:
    """A job as the collection's worker has it, made from the template and the values of a deployment."""
    found = await configuration.from_template_and_values(read_template(kind), values)
    assert not set(read_template(kind)["job_configuration"]) - set(configuration.model_fields)
    return found


@pytest.mark.server
@pytest.mark.anyio
async def test_docker_gets_the_devices_and_the_name_of_the_machine(
    prefect_server: ServerAddress, anyio_backend: str
) -> None:
    worker = pytest.importorskip("prefect_docker.worker", reason="pip install 'modelkeep[docker]'")
    from docker.types import HostConfig

    job = await configured(worker.DockerWorkerJobConfiguration, "docker", env={"A": "1"}, gpus=2)
    assert job.image == "modelkeep:gpu" and job.env["A"] == "1" and job.volumes == ["modelkeep:/srv/modelkeep"]
    made = HostConfig(version="1.43", **job.container_create_kwargs)
    assert made["DeviceRequests"][0]["Driver"] == "nvidia" and made["DeviceRequests"][0]["Count"] == 2
    assert made["UTSMode"] == "host"


@pytest.mark.server
@pytest.mark.anyio
async def test_kubernetes_asks_for_a_gpu_and_takes_credentials_from_a_secret(
    prefect_server: ServerAddress, anyio_backend: str
) -> None:
    worker = pytest.importorskip("prefect_kubernetes.worker", reason="pip install 'modelkeep[kubernetes]'")
    job = await configured(worker.KubernetesWorkerJobConfiguration, "kubernetes", memory_limit="8Gi")
    container = job.job_manifest["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": 1}
    assert container["envFrom"] == [{"secretRef": {"name": "modelkeep"}}]
    assert container["image"] == "modelkeep:gpu" and job.namespace == "default"


@pytest.mark.parametrize("kind", KINDS)
def test_the_template_has_only_variables_that_the_collection_knows_and_our_own(kind: str) -> None:
    worker = pytest.importorskip(f"prefect_{kind}.worker", reason=f"pip install 'modelkeep[{kind}]'")
    known = getattr(worker, f"{kind.capitalize()}Worker").get_default_base_job_template()["variables"]["properties"]
    assert set(read_template(kind)["variables"]["properties"]) - set(known) <= {"gpus", "secret"}


def test_the_recipe_of_the_image_copies_every_package_of_the_project() -> None:
    import tomllib

    root = Path(__file__).resolve().parents[2]
    told = tomllib.loads((root / "pyproject.toml").read_text())
    recipe = (root / "deployments" / "Dockerfile").read_text()
    for package in told["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"COPY {package} {package}\n" in recipe
    assert "--require-hashes" in recipe and "gpu" in told["project"]["optional-dependencies"]
