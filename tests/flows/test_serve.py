"""`modelkeep serve` over HTTP, with a real server on loopback: answers, refusals, limits, promotions, the end."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import keras
import numpy as np
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from flows.command_line import main
from flows.serve import make_server, read_limits, read_token
from flows.serve_app import Limits, _Request, build_app
from flows.serve_gate import Gate
from modelkeep.errors import ModelkeepError
from problems.outline.catalogue import load_problem
from store import open_store
from store.artifacts import Store
from store.registry import Registry
from tasks.row_fields import row_type
from tasks.served import ChampionWatch, ServedProblem
from tasks.serving_metrics import ServingMetrics
from tests.prefect_server import wait_for
from tests.training_store import crown

HOUSE = dict(zip(load_problem("housing").rows.columns, [0.1, 0, 2.3, 0, 0.5, 6.5, 60, 4, 1, 296, 15.3, 5], strict=True))  # type: ignore[union-attr]
PREDICT, INFER = "/housing/predict", "/v2/models/housing/infer"


def crown_constant(store: Store, bias: float) -> None:
    """A champion of housing that says `bias` of every house."""
    inputs = keras.Input((12,), name="attributes")
    layer = keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(bias))
    crown(store, "housing", keras.Model({"attributes": inputs}, layer(inputs)))


class Slow:
    """Answers, but only when it may."""

    def __init__(self, served: ServedProblem) -> None:
        self.may_answer, self.num_begun = threading.Event(), 0
        self._answer = served.model.answer
        served.model.answer = self  # type: ignore[method-assign, assignment]

    def __call__(self, questions: Any) -> Any:
        self.num_begun += 1
        assert self.may_answer.wait(30)
        return self._answer(questions)


class Running:
    def __init__(self, served: ServedProblem, client: httpx.Client, metrics: ServingMetrics) -> None:
        self.served, self.client, self.metrics = served, client, metrics

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(path, json=body)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@contextmanager
def running(store: Store, limits: Limits | None = None, token: str = "", **settings: Any) -> Iterator[Running]:
    metrics, limits = ServingMetrics(), limits or Limits()
    served = ServedProblem(
        load_problem("housing"), store, on_scored=lambda scored: metrics.count_rows("housing", scored),
        on_batch=lambda num_rows: metrics.count_batch("housing", num_rows), **settings,
    )  # fmt: skip
    metrics.watch(served)
    server = make_server(Gate(build_app([served], metrics, limits), metrics, limits, token))
    server.config.port = 0
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield Running(served, client, metrics)
    finally:
        server.should_exit = True
        thread.join()
        served.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = open_store(str(tmp_path_factory.mktemp("served") / "store"))
    crown_constant(store, 21.5)
    return store


@pytest.fixture(scope="module")
def server(store: Store) -> Iterator[Running]:
    with running(store) as one:
        yield one


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PREDICT, "/predict"])
def test_rows_are_answered_with_the_version_that_says_so(server: Running, path: str) -> None:
    told = server.post(path, {"rows": [HOUSE, HOUSE]})
    assert told.status_code == 200
    assert told.json() == {
        "problem": "housing",
        "version": 1,
        "run": server.served.version.run,
        "predictions": [{"prediction": 21.5}, {"prediction": 21.5}],
    }


def test_a_row_that_breaks_a_rule_gets_the_reason_and_the_others_their_prediction(server: Running) -> None:
    told = server.post(PREDICT, {"rows": [{**HOUSE, "RM": 99}, HOUSE, {**HOUSE, "CHAS": None}]})
    assert told.status_code == 200
    assert told.json()["predictions"] == [
        {"error": "RM: 99.0, expected between 3 and 10"},
        {"prediction": 21.5},
        {"error": "CHAS: missing, expected never missing"},
    ]


def test_tensors_are_answered_by_the_open_inference_protocol(server: Running) -> None:
    tensor = {"name": "attributes", "shape": [2, 12], "datatype": "FP32", "data": [*HOUSE.values()] * 2}
    told = server.post(INFER, {"id": "7", "inputs": [tensor], "outputs": [{"name": "prediction"}]})
    assert told.json() == {
        "model_name": "housing",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "prediction", "datatype": "FP32", "shape": [2], "data": [21.5, 21.5]}],
    }
    assert server.post("/v2/models/housing/versions/1/infer", {"inputs": [tensor]}).status_code == 200
    without_type = server.client.post(INFER, content=json.dumps({"inputs": [tensor]}))
    assert without_type.status_code == 200  # as tritonclient sends it


def test_tensors_may_follow_the_json_as_bytes(server: Running) -> None:
    """As tritonclient sends them if it is not told otherwise."""
    values = np.array([list(HOUSE.values())] * 3, "<f4").tobytes()
    parameters = {"binary_data_size": len(values)}
    tensor = {"name": "attributes", "shape": [3, 12], "datatype": "FP32", "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    header = {"Inference-Header-Content-Length": str(len(head))}
    told = server.client.post(INFER, content=head + values, headers=header)
    assert told.json()["outputs"][0]["data"] == [21.5] * 3
    for body, length in ((head + values[:-1], str(len(head))), (head + values, "x"), (head[:-1], str(len(head) - 1))):
        told = server.client.post(INFER, content=body, headers={**header, "Inference-Header-Content-Length": length})
        assert told.status_code == 400 and told.json()["error"]


def test_metadata_tell_names_types_and_shapes(server: Running) -> None:
    told = server.client.get("/v2/models/housing").json()
    assert told["versions"] == ["1"] and told["outputs"] == [{"name": "prediction", "datatype": "FP32", "shape": [-1]}]
    (attributes,) = told["inputs"]
    assert (attributes["name"], attributes["datatype"], attributes["shape"]) == ("attributes", "FP32", [-1, 12])
    assert attributes["parameters"]["columns"] == list(HOUSE)
    assert server.client.get("/v2/models/housing/versions/1").json() == told
    assert server.client.get("/v2").json()["name"] == "modelkeep"
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/housing/ready"):
        assert server.client.get(path).status_code == 200


def test_the_openapi_document_names_every_field_and_needs_no_network(server: Running) -> None:
    told = server.client.get("/openapi.json").json()
    fields = told["components"]["schemas"]["housing_row"]["properties"]
    assert list(fields) == list(HOUSE) and fields["RM"]["anyOf"][0] == {"type": "number"}
    assert fields["RM"]["description"].endswith("never missing; between 3 and 10")
    assert server.client.get("/docs").status_code == 404


# --- refusals ------------------------------------------------------------------------------------------------------


def rows_with(**fields: Any) -> dict[str, Any]:
    return {"rows": [HOUSE, {**HOUSE, **fields}]}


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        (rows_with(RM="six"), 422, "rows[1].RM"),
        (rows_with(RM=True), 422, "rows[1].RM"),
        (rows_with(RM=[1]), 422, "rows[1].RM"),
        ({"rows": [{name: value for name, value in HOUSE.items() if name != "TAX"}]}, 422, "rows[0].TAX"),
        ({"rows": [{**HOUSE, "RM": 99}]}, 422, "rows[0]"),
        ({"rows": []}, 422, "rows"),
        ({"rows": [HOUSE] * 1025}, 422, "rows"),
        ({"rows": HOUSE}, 422, "rows"),
        ({"row": [HOUSE]}, 422, "rows"),
        ([], 422, "body"),
        (None, 422, "body"),
    ],
)
def test_a_malformed_request_is_refused_and_its_field_named(server: Running, body: Any, code: int, named: str) -> None:
    told = server.post(PREDICT, body)
    assert told.status_code == code and named in told.json()["fields"], told.text


@pytest.mark.parametrize("text", ["{", "", "\ud800".encode("utf-8", "surrogatepass"), "[" * 100_000, '{"rows": NaN}'])
def test_what_is_no_json_is_refused(server: Running, text: str | bytes) -> None:
    told = server.client.post(PREDICT, content=text, headers={"Content-Type": "application/json"})
    assert told.status_code in (400, 422) and told.json()["error"]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"datatype": "FP64"}, 400, "attributes"),
        ({"datatype": "FP9"}, 422, "inputs[0].datatype"),
        ({"shape": [1, 13]}, 400, "[-1, 12]"),
        ({"shape": [-1, 12]}, 422, "inputs[0].shape[0]"),
        ({"shape": [10**30, 12]}, 400, "attributes"),
        ({"name": "x"}, 400, "missing: attributes"),
        ({"data": ["a"] * 12}, 400, "attributes"),
        ({"data": [3e38] * 12}, 200, ""),
    ],
)
def test_a_tensor_that_the_model_does_not_take_is_refused(
    server: Running, change: dict[str, Any], code: int, said: str
) -> None:
    tensor = {"name": "attributes", "shape": [1, 12], "datatype": "FP32", "data": list(HOUSE.values()), **change}
    told = server.post(INFER, {"inputs": [tensor]})
    assert told.status_code == code and said in told.text, told.text


def test_a_body_that_is_sent_as_a_form_is_refused_with_the_header_that_it_needs(server: Running) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}  # as by `curl -d` without a header
    told = server.client.post(PREDICT, content=json.dumps({"rows": [HOUSE]}), headers=form)
    assert told.status_code == 422 and "Content-Type: application/json" in told.json()["error"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v2/models/houses/infer", "expected one of housing"),
        ("/v2/models/housing/versions/2/infer", "the champion is version 1"),
        ("/digits/predict", "nothing at /digits/predict; /openapi.json names what there is"),
    ],
)
def test_what_is_not_served_is_not_found(server: Running, path: str, said: str) -> None:
    tensor = {"name": "attributes", "shape": [1, 12], "datatype": "FP32", "data": list(HOUSE.values())}
    told = server.post(path, {"inputs": [tensor]})
    assert told.status_code == 404 and said in told.json()["error"]


def test_values_that_the_model_has_no_answer_to_are_refused_and_spoil_no_others(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    inputs = keras.Input((12,), name="attributes")
    layer = keras.layers.Dense(1, kernel_initializer="ones", use_bias=False)
    crown(store, "housing", keras.Model({"attributes": inputs}, layer(inputs)))
    with running(store) as server:
        tensor = {"name": "attributes", "shape": [1, 12], "datatype": "FP32", "data": [3e38] * 12}
        told = server.post(INFER, {"inputs": [tensor]})
        assert told.status_code == 422 and "no answer to these values" in told.json()["error"]
        assert server.post(PREDICT, {"rows": [HOUSE]}).status_code == 200


def test_a_fault_of_the_server_is_told_without_its_details_and_logged_with_them(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(server.served.model, "answer", fail)
    told = server.post(PREDICT, {"rows": [HOUSE]})
    assert told.status_code == 500 and "secret" not in told.text and "error" in told.json()
    assert wait_for(lambda: "RuntimeError: secret" in caplog.text)  # written after the answer


def test_no_request_that_a_generator_thinks_up_breaks_the_server(server: Running) -> None:
    """Requests that follow the OpenAPI document and requests that do not (schemathesis, 50 of each operation)."""
    schema = schemathesis.openapi.from_url(f"{server.client.base_url}/openapi.json").include(method="POST")
    checks = [not_a_server_error, response_schema_conformance, status_code_conformance]
    num_tried = 0
    for found in schema.get_all_operations():
        for mode in GenerationMode:

            @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            @given(case=found.ok().as_strategy(generation_mode=mode))
            def try_out(case: Any) -> None:
                nonlocal num_tried
                num_tried += 1
                case.call_and_validate(checks=checks)

            try_out()
    assert num_tried > 100


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(store: Store) -> None:
    with running(store, Limits(body_bytes=10_000)) as server:
        assert server.post(PREDICT, {"rows": [HOUSE]}).status_code == 200
        told = server.post(PREDICT, {"rows": [HOUSE] * 1000})
        assert told.status_code == 413 and "10,000" in told.json()["error"]
        parts = (b"x" * 1000 for _ in range(1000))
        told = server.client.post(PREDICT, content=parts, headers={"Content-Type": "application/json"})
        assert told.status_code == 413


def test_limits_come_from_the_surroundings(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_limits() == Limits()
    for name, value in {"ROWS": "5", "BYTES": "2000", "SECONDS": "3"}.items():
        monkeypatch.setenv(f"MODELKEEP_SERVE_{name}", value)
    assert read_limits() == Limits(rows=5, body_bytes=2000, seconds=3)
    with running(store, read_limits()) as server:
        assert server.post(PREDICT, {"rows": [HOUSE] * 5}).status_code == 200
        assert "at most 5" in server.post(PREDICT, {"rows": [HOUSE] * 6}).json()["error"]
    monkeypatch.setenv("MODELKEEP_SERVE_ROWS", "0")
    with pytest.raises(ModelkeepError, match="MODELKEEP_SERVE_ROWS"):
        read_limits()


def test_health_is_answered_between_large_requests(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them come at once, and health last."""
    served, num_parsed = ServedProblem(load_problem("housing"), store), []
    parse = _Request.parse

    def count(self: Any) -> Any:
        num_parsed.append(1)
        return parse(self)

    monkeypatch.setattr(_Request, "parse", count)

    async def ask() -> int:
        transport = httpx.ASGITransport(build_app([served], ServingMetrics(), Limits()))
        async with httpx.AsyncClient(transport=transport, base_url="http://here", timeout=60) as client:
            large = [asyncio.create_task(client.post(PREDICT, json={"rows": [HOUSE] * 500})) for _ in range(20)]
            await client.get("/v2/health/ready")
            parsed_before = len(num_parsed)
            assert {answer.status_code for answer in await asyncio.gather(*large)} <= {200, 429}
        return parsed_before

    try:
        assert asyncio.run(ask()) < 15 and len(num_parsed) == 20
    finally:
        served.close()


def test_overload_is_refused_and_what_was_taken_on_is_answered(store: Store) -> None:
    with running(store, most_waiting=3) as server, ThreadPoolExecutor(20) as pool:
        slow = Slow(server.served)
        asked = [pool.submit(server.post, PREDICT, {"rows": [HOUSE]})]
        while not slow.num_begun:
            time.sleep(0.01)
        asked += [pool.submit(server.post, PREDICT, {"rows": [HOUSE]}) for _ in range(19)]
        while sum(future.done() for future in asked) < 16:
            time.sleep(0.01)
        assert server.metric("modelkeep_rows_waiting", problem="housing") == 3
        slow.may_answer.set()
        told = [future.result(30) for future in asked]
        assert sorted(one.status_code for one in told) == [200] * 4 + [429] * 16
        assert all(one.headers["Retry-After"] == "1" for one in told if one.status_code == 429)
        assert server.post(PREDICT, {"rows": [HOUSE]}).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(store: Store) -> None:
    with running(store, Limits(seconds=0.2)) as server:
        slow = Slow(server.served)
        told = server.post(PREDICT, {"rows": [HOUSE]})
        assert told.status_code == 503 and "0.2 s" in told.json()["error"] and "Retry-After" in told.headers
        slow.may_answer.set()
        assert server.post(PREDICT, {"rows": [HOUSE]}).status_code == 200


def test_who_does_not_bear_the_token_is_refused_but_health_is_open(store: Store) -> None:
    headers = {
        "Bearer right": 200,
        "bearer right": 200,
        "Bearer wrong": 401,
        "Basic right": 401,
        "Bearer": 401,
        "": 401,
    }
    with running(store, token="right") as server:
        for header, code in headers.items():
            told = server.client.post(PREDICT, json={"rows": [HOUSE]}, headers={"Authorization": header})
            assert told.status_code == code, header
        assert server.client.get("/metrics").status_code == 401
        assert server.client.get("/v2/health/ready").status_code == 200


def test_the_token_comes_from_a_file_or_the_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text(" from the file\n")
    monkeypatch.setenv("MODELKEEP_SERVE_TOKEN", "from the surroundings")
    assert read_token(path) == "from the file" and read_token(None) == "from the surroundings"
    path.write_text("\n")
    with pytest.raises(ModelkeepError, match="holds none"):
        read_token(path)


def test_metrics_count_requests_rows_batches_and_versions(store: Store) -> None:
    with running(store) as server:
        server.post(PREDICT, {"rows": [HOUSE, {**HOUSE, "RM": 99}]})
        server.post(PREDICT, {"rows": []})
        server.client.get("/nowhere")
        text = server.client.get("/metrics").text
        for line in (
            f'modelkeep_requests_total{{code="200",route="{PREDICT}"}} 1.0',
            f'modelkeep_requests_total{{code="422",route="{PREDICT}"}} 1.0',
            'modelkeep_requests_total{code="404",route="none"} 1.0',
            f'modelkeep_request_seconds_count{{route="{PREDICT}"}} 2.0',
            'modelkeep_rows_total{outcome="scored",problem="housing"} 1.0',
            'modelkeep_rows_total{outcome="set_aside",problem="housing"} 1.0',
            'modelkeep_batch_rows_sum{problem="housing"} 2.0',
            'modelkeep_rows_waiting{problem="housing"} 0.0',
            'modelkeep_version{problem="housing"} 1.0',
        ):
            assert line in text.splitlines()


# --- the life of a server ------------------------------------------------------------------------------------------


def test_a_promotion_and_a_rollback_under_load_lose_no_request(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    crown_constant(store, 1.0)
    stop = threading.Event()
    told: list[tuple[int, int, float]] = []
    with running(store) as server, httpx.Client(base_url=server.client.base_url, timeout=60) as client:

        def hammer() -> None:
            while not stop.is_set():
                answer = client.post(PREDICT, json={"rows": [HOUSE]})
                page = answer.json()
                told.append((answer.status_code, page["version"], page["predictions"][0]["prediction"]))

        watch = ChampionWatch([server.served], 0.05)
        with ThreadPoolExecutor(4) as pool:
            hammering = [pool.submit(hammer) for _ in range(4)]
            crown_constant(store, 2.0)
            wait_for_answers(told, (200, 2, 2.0))
            Registry(store).rollback("housing", actor="test", reason="worse")
            before = len(told)
            while (200, 1, 1.0) not in told[before:]:
                time.sleep(0.01)
            stop.set()
            for future in hammering:
                future.result(30)
        watch.close()
    assert set(told) == {(200, 1, 1.0), (200, 2, 2.0)}


def wait_for_answers(told: list[Any], wanted: Any) -> None:
    while wanted not in told:
        time.sleep(0.01)


@pytest.fixture
def process(store: Store, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`modelkeep serve` as a process of its own, and its address."""
    command = [sys.executable, "-m", "flows.command_line", "serve", "housing", "--port", "0", "--store", store.uri]
    environment = {**os.environ, "HOME": str(tmp_path), "MODELKEEP_SERVE_TOKEN": "let-me-in"}
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert started.stderr is not None
        for line in started.stderr:
            if found := re.search(r"at (http://\S+?)/housing/predict", line):
                yield started, found[1]
                break
    finally:
        started.kill()
        started.wait()


def test_told_to_stop_it_answers_what_it_was_asked_and_keeps_the_log(
    process: tuple[subprocess.Popen[str], str], store: Store
) -> None:
    """The signal comes when half of the request has arrived."""
    started, address = process
    body = json.dumps({"rows": [HOUSE] * 500}).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer let-me-in\r\nExpect: 100-continue\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(address) as connection:
        connection.sendall(head.encode())
        assert b"100" in connection.recv(1000)
        connection.sendall(body[:1000])
        started.send_signal(signal.SIGTERM)
        with pytest.raises(OSError):
            while True:  # until nobody new is let in
                connect(address, num_attempts=1).close()
        connection.sendall(body[1000:])
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    status, _, page = answer.partition(b"\r\n\r\n")
    assert b"200" in status and len(json.loads(page)["predictions"]) == 500
    assert started.stderr is not None
    said = started.stderr.read()
    assert started.wait(30) == 0 and "stopped" in said and "let-me-in" not in said
    (manifest,) = Path(store.uri).glob("windows/housing/served-*/manifest.json")
    kept = json.loads(manifest.read_text())
    assert (kept["num_scored"], kept["version"]) == (500, 1) and "let-me-in" not in manifest.read_text()


def connect(address: str, num_attempts: int = 200) -> socket.socket:
    """The address is said a moment before somebody listens there."""
    url = httpx.URL(address)
    assert url.port is not None
    for _ in range(num_attempts - 1):
        try:
            return socket.create_connection((url.host, url.port), 30)
        except ConnectionRefusedError:
            time.sleep(0.05)
    return socket.create_connection((url.host, url.port), 30)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "There is no problem"),
        ([","], "There is nothing to serve"),
        (["digits"], "has no champion"),
        (["housing", "--port", "TAKEN"], "choose another --port"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(
    arguments: list[str],
    said: str,
    store: Store,
    server: Running,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows.local_run.import_keras", None)  # would fail if it were called
    taken = str(server.client.base_url.port)
    given = [taken if one == "TAKEN" else one for one in arguments]
    assert main(["serve", *given, "--store", store.uri]) == 2
    assert said in capsys.readouterr().err


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    store = open_store(str(tmp_path_factory.mktemp("pictures")))
    crown_pictures(store)
    served = ServedProblem(load_problem("cifar10"), store)
    yield build_app([served], ServingMetrics(), Limits())
    served.close()


def crown_pictures(store: Store) -> None:
    image = keras.Input((32, 32, 3), name="image", dtype="uint8")
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    crown(store, "cifar10", keras.Model({"image": image}, keras.layers.Dense(10, activation="softmax")(hidden)))


def post(app: FastAPI, *images: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.post("/predict", json={"rows": [{"image": image} for image in images]}, timeout=60)

    return asyncio.run(send())


def as_file(image: Image.Image, kind: str) -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def noise(mode: str = "RGB", size: tuple[int, int] = (40, 50)) -> Image.Image:
    width, height = size
    values = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)))
    return Image.fromarray(values.astype(np.uint8), mode)


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGB"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGBA")])
def test_the_file_of_a_picture_is_answered_as_its_values_are(pictures: FastAPI, kind: str, mode: str) -> None:
    file = as_file(noise(mode), kind)
    values = load_problem("cifar10").rows.decode(base64.b64decode(file), "")  # type: ignore[union-attr, misc]
    answer = post(pictures, file, values.tolist())
    assert answer.status_code == 200, answer.text
    one, other = answer.json()["predictions"]
    assert one["predicted"] == other["predicted"] and one["probabilities"] == pytest.approx(other["probabilities"])


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (as_file(noise(), "PNG")[:400], "cannot be read"),
        (as_file(Image.new("1", (9000, 9000)), "PNG"), "larger than it may be"),
        (base64.b64encode(b"GIF89a, or so it says").decode(), "cannot be read"),
        ("no base64!", "expected the file of a picture as base64"),
        ([[1, 2]], "should be a valid list"),
    ],
    ids=["cut short", "bomb", "no picture", "no base64", "too small"],
)
def test_a_picture_that_cannot_be_read_is_refused_and_its_place_named(pictures: FastAPI, file: Any, said: str) -> None:
    answer = post(pictures, as_file(noise(), "PNG"), file)
    assert answer.status_code == 422
    field, reason = next(iter(answer.json()["fields"].items()))
    assert field.startswith("rows[1].image") and said in reason


def test_the_openapi_document_says_that_a_picture_may_be_a_file_or_an_array(pictures: FastAPI) -> None:
    file, array = pictures.openapi()["components"]["schemas"]["cifar10_row"]["properties"]["image"]["anyOf"]
    assert file["contentEncoding"] == "base64" and "PNG" in file["description"] and array["type"] == "array"


def test_arrays_that_are_no_pictures_have_no_files(store: Store) -> None:
    with pytest.raises(ValidationError, match="list"):
        TypeAdapter(row_type("digits", load_problem("digits").rows)).validate_python({"image": "aGVsbG8="})  # type: ignore[arg-type]


def test_a_problem_that_has_no_rows_has_no_path_for_them_and_takes_tensors(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    crown_pictures(store)
    served, metrics = ServedProblem(replace(load_problem("cifar10"), rows=None), store), ServingMetrics()
    app = build_app([served], metrics, Limits())
    served.close()
    paths = app.openapi()["paths"]
    assert "/cifar10/predict" not in paths and "/v2/models/{model}/infer" in paths
    assert served.model.outputs["probabilities"].shape == (1, 10)
    assert np.isclose(served.model.outputs["probabilities"].sum(), 1)
