"""Puts what prefect.yaml declares on the Prefect server: the flows for every problem, with schedules, in a work pool.

python -m deployments.deploy          deploys, and takes off the server what is no longer declared
python -m deployments.deploy --show   prints the prefect.yaml that it would deploy
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.run_tags import OURS
from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import load_problem, problem_names, problem_path, sort_out
from store.artifacts import digest_of
from tasks.code_digest import code_digest

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

PREFECT_YAML = Path(__file__).with_name("prefect.yaml")


class DeploymentFailed(ModelkeepError):
    """Prefect refused something that prefect.yaml declares."""


class ProblemsBroken(ModelkeepError):
    """Files of problems that cannot be imported; all others are deployed."""


def describe_broken(faults: Mapping[str, str]) -> ProblemsBroken:
    were = "it was, since its file" if len(faults) == 1 else "they were, since their files"
    return ProblemsBroken(
        f"Left as {were} cannot be imported: {', '.join(faults)}.",
        where=", ".join(str(problem_path(name)) for name in faults),
        expected="a file that defines `problem`",
        received="\n           ".join(f"{name}: {fault}" for name, fault in faults.items()),
        next_step="mend it and `modelkeep up` again; the other problems are deployed",
    )


def declare(problems: Sequence[str], template: Path = PREFECT_YAML) -> dict[str, Any]:
    """A prefect.yaml as data, with each deployment of the template once for each problem that has what it needs."""
    import yaml

    declared: dict[str, Any] = yaml.safe_load(template.read_text(encoding="utf-8"))
    entries = []
    for entry in declared["deployments"]:
        needs = entry.pop("needs", [])
        entries += [_fill(entry, problem) for problem in problems if _has_any(problem, needs)]
    version = _version_of(declared, entries)
    return {**declared, "deployments": [{**entry, "version": version} for entry in entries]}


def _has_any(problem: str, needs: list[str]) -> bool:
    return not needs or any(getattr(load_problem(problem), name) for name in needs)


def _version_of(declared: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """Another one whenever Prefect would keep something else: also the parameters of the flows are part of that."""
    modules = sorted({entry["entrypoint"].rpartition(".")[0] for entry in entries})
    return digest_of({"declared": {**declared, "deployments": entries}, "code": code_digest(*modules)})[:12]


def as_yaml(declared: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(declared, sort_keys=False, width=120))


def is_deployed(client: SyncPrefectClient, declared: dict[str, Any], spared: Collection[str] = ()) -> bool:
    """Whether the server has each deployment of the declaration as it is declared, and no other of ours but those of
    the problems that are `spared`."""
    wanted = {_key(entry): entry["version"] for entry in declared["deployments"]}
    return wanted == {(found.entrypoint, found.name): found.version for found in deployments_of(client, spared)}


def deploy(declared: dict[str, Any], spared: Collection[str] = ()) -> list[str]:
    """Make the server PREFECT_API_URL match the declaration; deployments of the problems that are `spared`, about which
    it says nothing, stay as they are. Returns `flow/deployment` of each other that is there now."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for pool in sorted({entry["work_pool"]["name"] for entry in declared["deployments"]}):
            require_pool(client, pool)
        if declared["deployments"]:
            _run_prefect_deploy(declared)
        present = _remove_undeclared(client, declared["deployments"], spared)
        _require_all(declared["deployments"], present)
        return sorted(f"{client.read_flow(kept.flow_id).name}/{kept.name}" for kept in present)


def _fill(value: Any, problem: str) -> Any:
    if isinstance(value, str):
        return value.replace("{problem}", problem)
    if isinstance(value, list):
        return [_fill(item, problem) for item in value]
    if isinstance(value, dict):
        return {key: _fill(item, problem) for key, item in value.items()}
    return value


def require_pool(client: SyncPrefectClient, name: str, limit: int | None = None) -> None:
    """A work pool of type process, with so many runs at once; one that is there is left as it is."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(
            WorkPoolCreate(name=name, type="process", base_job_template=template, concurrency_limit=limit)
        )


def _run_prefect_deploy(declared: dict[str, Any]) -> None:
    """By Prefect's own command, which checks the parameters against the flow and keeps the versions."""
    project = str(PREFECT_YAML.resolve().parent.parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH")])),
        "COLUMNS": "120",
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(as_yaml(declared), encoding="utf-8")
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        answer = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if answer.returncode:
        raise DeploymentFailed(
            "Prefect refused a deployment.",
            where=str(PREFECT_YAML),
            expected="every deployment that is declared to be accepted",
            received="\n            ".join((answer.stdout + answer.stderr).split("\n")[-12:]),
            next_step="correct the file; `python -m deployments.deploy --show` prints what was sent",
        )


def _remove_undeclared(
    client: SyncPrefectClient, entries: list[dict[str, Any]], spared: Collection[str]
) -> list[DeploymentResponse]:
    """Prefect deletes nothing by itself: a schedule that is taken out of the file would run on.

    A deployment with runs in progress is unscheduled only, and goes with the next call: with it Prefect deletes the
    limit that its runs hold, and answers with 500 when they end.
    """
    slugs = {_key(entry): {schedule["slug"] for schedule in entry.get("schedules", [])} for entry in entries}
    kept = []
    for found in list(deployments_of(client, spared)):
        key = (found.entrypoint or "", found.name)
        for schedule in found.schedules:
            if schedule.slug not in slugs.get(key, ()):
                client.delete_deployment_schedule(found.id, schedule.id)
        if key in slugs:
            kept.append(found)
            continue
        client.delete_resource_owned_automations(f"prefect.deployment.{found.id}")
        if not _is_running(client, found):
            client.delete_deployment(found.id)
    return kept


def _is_running(client: SyncPrefectClient, deployment: DeploymentResponse) -> bool:
    from prefect.client.schemas.filters import FlowRunFilter

    states = {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}
    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [deployment.id]}, "state": states})
    return bool(client.read_flow_runs(flow_run_filter=wanted, limit=1))


def deployments_of(client: SyncPrefectClient, spared: Collection[str] = ()) -> Iterator[DeploymentResponse]:
    """Ours, but for those of the problems that are `spared`."""
    from prefect.client.schemas.filters import DeploymentFilter

    tagged = DeploymentFilter.model_validate({"tags": {"all_": [OURS]}})
    num_found = 0
    while page := client.read_deployments(deployment_filter=tagged, offset=num_found):
        yield from (found for found in page if not set(found.tags) & set(spared))
        num_found += len(page)


def _require_all(entries: list[dict[str, Any]], present: list[DeploymentResponse]) -> None:
    missing = {_key(entry) for entry in entries} - {(found.entrypoint, found.name) for found in present}
    if missing:
        raise DeploymentFailed(
            "Some deployments did not reach the server.",
            where=os.environ.get("PREFECT_API_URL", "the Prefect server"),
            expected=f"{len(entries)} deployments with the tag {OURS}",
            received="without " + ", ".join(f"{entrypoint} {name}" for entrypoint, name in sorted(missing)),
            next_step="see `prefect deployment ls` and the server's log, then deploy again",
        )


def _key(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["entrypoint"], entry["name"]


def main(arguments: list[str] | None = None) -> int:
    from flows.server import ensure_server, use_server

    options = sys.argv[1:] if arguments is None else arguments
    sound, faults = sort_out(problem_names())
    declared = declare(sound)
    if options == ["--show"]:
        print(as_yaml(declared), end="")
        return 0
    if options:
        print("usage: python -m deployments.deploy [--show]", file=sys.stderr)
        return 2
    try:
        address = ensure_server(on_progress=print)
        use_server(address)
        print("\n".join(deploy(declared, spared=faults)))
        print(f"deployed to {address.ui_url}; this worker would run them here:")
        print(f"PREFECT_API_URL={address.api_url} MODELKEEP_FOLDER=$PWD prefect worker start --pool cpu")
        if faults:
            raise describe_broken(faults)
    except ModelkeepError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
