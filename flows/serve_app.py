"""The HTTP side of `modelkeep serve`: rows as plain JSON, tensors by the Open Inference Protocol v2, health, metrics.

Only the shape of requests and answers is decided here; what is answered comes from `tasks.served`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.exceptions import HTTPException as StarletteHTTPException

from modelkeep import __version__
from problems.outline.catalogue import read_card
from problems.outline.objectives import Classification, PredictionsInvalid
from problems.outline.problem import Stack
from store.registry import Version
from tasks.micro_batches import Overloaded, Stopping
from tasks.online import Answer, ChampionChanged, Question, RowsAnswered, RowsAsked, TensorsAnswered, TensorsAsked
from tasks.row_fields import FileInvalid, Row, WholeNumber, decode_files, row_type
from tasks.served import ServedProblem
from tasks.serving_metrics import ServingMetrics
from tasks.tensors import DATATYPES, TensorInvalid, describe_tensor, join_binary, read_tensors, write_tensor

_MOST_FAULTS = 20
_LARGE_BYTES, _LARGE_ROWS = 16 << 10, 64  # some milliseconds of parsing or writing

Datatype: Any = Literal[tuple(dict.fromkeys(DATATYPES.values()))]


@dataclass(frozen=True)
class Limits:
    """Of a request: rows, bytes of its body, and seconds until it is answered, the upload not counted."""

    rows: int = 1024
    body_bytes: int = 8 << 20
    seconds: float = 10.0


class Told(BaseModel):
    """What went wrong, and where in the request."""

    error: str
    fields: dict[str, str] = Field(default={}, description="What is wrong with each field that is named")


class InputTensor(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    shape: Annotated[list[Annotated[WholeNumber, Field(ge=0)]], Field(min_length=1, max_length=32)]
    datatype: Datatype
    parameters: dict[str, Any] = {}
    data: list[Any] = Field(description="The values, flat or in lists of the shape")


class OutputTensor(BaseModel):
    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(BaseModel):
    model_config = ConfigDict(strict=True)

    id: str = ""
    parameters: dict[str, Any] = {}
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: list[OutputTensor] = []


def build_app(served: Sequence[ServedProblem], metrics: ServingMetrics, limits: Limits) -> FastAPI:
    """The routes of these problems. Swagger's page is left out: it fetches its parts from the network."""
    app = FastAPI(
        title="modelkeep",
        version=__version__,
        description="What the champions of these problems say of new rows.",
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,  # clients of the Open Inference Protocol leave the header out
        responses={code: {"model": Told} for code in (400, 401, 404, 413, 422, 429, 503)},
    )
    app.router.route_class = _Route
    app.state.turn, app.state.decoders = asyncio.Lock(), asyncio.Semaphore(2)
    _add_error_handlers(app)
    _add_health(app, served, metrics)
    _add_inference(app, {one.problem.name: one for one in served}, limits)
    for one in served:
        if one.problem.rows is not None:
            paths = [f"/{one.problem.name}/predict", *(["/predict"] if len(served) == 1 else [])]
            for path in paths:
                _add_predict(app, path, one, limits)
    return app


# --- rows ----------------------------------------------------------------------------------------------------------


def _add_predict(app: FastAPI, path: str, served: ServedProblem, limits: Limits) -> None:
    problem = served.problem
    assert problem.rows is not None
    row = row_type(problem.name, problem.rows, served.model.describe_rules())
    rows: Any = Annotated[list[row], Field(min_length=1, max_length=limits.rows)]  # type: ignore[valid-type]
    asked = create_model(f"{problem.name}_rows", __config__=ConfigDict(strict=True), rows=(rows, ...))

    async def predict(body: Any) -> Response:
        asked = RowsAsked(await _decoded(app, served, body.rows, limits.seconds))
        answer = await _answer(served, asked, limits.seconds)
        assert isinstance(answer, RowsAnswered)
        told = {
            "problem": problem.name,
            "version": answer.version.number,
            "run": answer.version.run,
            "predictions": list(answer.rows),
        }
        if all("error" in one for one in answer.rows):
            fields = {f"rows[{place}]": one["error"] for place, one in enumerate(answer.rows[:_MOST_FAULTS])}
            return _refuse(422, "None of the rows can be scored: they break rules of the training data.", fields)
        return await _told(app, told, len(answer.rows))

    predict.__annotations__["body"] = asked  # made here, so that no name leads to it
    card = read_card(problem.name)
    app.add_api_route(
        path,
        predict,
        methods=["POST"],
        summary=card["question"],
        description="Rows that break a rule of the training data are answered with an error, the others are scored.",
        response_model=_answered(served),
        tags=[problem.name],
        operation_id=f"predict_{path.strip('/').replace('/', '_')}",
    )


def _answered(served: ServedProblem) -> Any:
    """The form of an answer, for the documentation."""
    objective = served.model.champion.objective
    fields: dict[str, Any] = {"error": (str | None, Field(None, description="Why the row was not scored"))}
    if isinstance(objective, Classification):
        fields |= {"predicted": (str | None, None), "probabilities": (dict[str, float] | None, None)}
    else:
        fields |= dict.fromkeys(served.model.outputs, (float | None, None))
    name = served.problem.name
    prediction: Any = create_model(f"{name}_prediction", **fields)
    return create_model(
        f"{name}_predictions",
        problem=(str, ...),
        version=(int, ...),
        run=(str, ...),
        predictions=(list[prediction], ...),
    )


async def _answer(served: ServedProblem, question: Question, seconds: float) -> Answer:
    """Raises HTTPException: 429 where too much is waiting, 503 where it takes too long or the server is stopping."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(served.ask(question)), seconds)
    except Overloaded as fault:
        raise HTTPException(429, fault.what, {"Retry-After": "1"}) from None
    except (Stopping, ChampionChanged) as fault:
        raise HTTPException(503, fault.what, {"Retry-After": "1"}) from None
    except TimeoutError:
        raise _too_slow(seconds) from None


async def _decoded(app: FastAPI, served: ServedProblem, rows: Sequence[Row], seconds: float) -> Sequence[Row]:
    """Files of pictures are unpacked in threads, of which there are few: a picture may take much memory.

    Raises FileInvalid, HTTPException.
    """
    form = served.problem.rows
    if not (isinstance(form, Stack) and any(isinstance(row[form.name], bytes) for row in rows)):
        return rows
    try:
        await asyncio.wait_for(app.state.decoders.acquire(), seconds)
    except TimeoutError:
        raise _too_slow(seconds) from None
    try:
        return await asyncio.to_thread(decode_files, form, rows)
    finally:
        app.state.decoders.release()


def _too_slow(seconds: float) -> HTTPException:
    return HTTPException(503, f"No answer within {seconds:g} s.", {"Retry-After": "1"})


async def _told(app: FastAPI, told: Mapping[str, Any], num_rows: int) -> Response:
    """An answer as JSON; a large one is written in its turn."""
    if num_rows < _LARGE_ROWS:
        return JSONResponse(told)
    async with app.state.turn:
        await asyncio.sleep(0)
        return JSONResponse(told)


class _Request(Request):
    """Large bodies are parsed in turn, one in each round of the event loop: so health and small requests are answered
    between them, however many there are."""

    async def json(self) -> Any:
        if len(await self.body()) < _LARGE_BYTES:
            return await self.parse()
        async with self.app.state.turn:
            await asyncio.sleep(0)  # others find the turn taken
            return await self.parse()

    async def parse(self) -> Any:
        return await super().json()


class _Route(APIRoute):
    request_class: ClassVar[type[_Request]] = _Request

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_request(request: Request) -> Response:
            return await handle(self.request_class(request.scope, request.receive))

        return handle_request


# --- tensors -------------------------------------------------------------------------------------------------------


class _TensorsRequest(_Request):
    """Also of tensors that follow the JSON as bytes, as tritonclient sends them unless told otherwise."""

    async def parse(self) -> Any:
        length = self.headers.get("inference-header-content-length")
        if length is None:
            return await super().parse()
        if not length.isdecimal():
            raise HTTPException(400, "The header Inference-Header-Content-Length is no number.")
        try:
            return join_binary(await self.body(), int(length))
        except TensorInvalid as fault:
            raise HTTPException(400, _sentence(fault)) from None


class _TensorsRoute(_Route):
    request_class = _TensorsRequest


def _add_inference(app: FastAPI, served: Mapping[str, ServedProblem], limits: Limits) -> None:
    tags: list[Any] = ["Open Inference Protocol v2"]

    def find(model: str, version: str = "") -> ServedProblem:
        if model not in served:
            raise HTTPException(404, f"There is no model {model!r} here; expected one of {', '.join(served)}.")
        _require_version(version, served[model].version)
        return served[model]

    @app.get("/v2/models/{model}", tags=tags)
    @app.get("/v2/models/{model}/versions/{version}", tags=tags)
    async def describe_model(model: str, version: str = "") -> dict[str, Any]:
        """Inputs and outputs of a champion."""
        return _describe(find(model, version))

    @app.get("/v2/models/{model}/ready", tags=tags)
    @app.get("/v2/models/{model}/versions/{version}/ready", tags=tags)
    async def is_model_ready(model: str, version: str = "") -> dict[str, Any]:
        found = find(model, version)
        return {"name": found.problem.name, "ready": True}

    router = APIRouter(route_class=_TensorsRoute, strict_content_type=False)

    @router.post("/v2/models/{model}/infer", tags=tags)
    @router.post("/v2/models/{model}/versions/{version}/infer", tags=tags)
    async def infer(body: InferenceRequest, model: str, version: str = "") -> Response:
        """What a champion says of values of its inputs. They are not held against the rules of the training data."""
        found = find(model, version)
        features = read_tensors(body.inputs, found.model.inputs, limits.rows)
        answer = await _answer(found, TensorsAsked(features), limits.seconds)
        assert isinstance(answer, TensorsAnswered)
        _require_version(version, answer.version)  # the champion may have changed meanwhile
        wanted = [output.name for output in body.outputs] or list(answer.tensors)
        if unknown := [name for name in wanted if name not in answer.tensors]:
            raise HTTPException(400, f"No output {', '.join(unknown)}; expected {', '.join(answer.tensors)}.")
        told: dict[str, Any] = {"model_name": model, "model_version": str(answer.version.number)}
        if body.id:
            told["id"] = body.id
        outputs = [write_tensor(name, answer.tensors[name]) for name in wanted]
        return await _told(app, told | {"outputs": outputs}, max(output["shape"][0] for output in outputs))

    app.include_router(router)


def _require_version(asked: str, champion: Version) -> None:
    """Raises HTTPException where a version is asked for that is not champion."""
    if asked and asked != str(champion.number):
        raise HTTPException(404, f"There is no version {asked!r} here; the champion is version {champion.number}.")


def _describe(served: ServedProblem) -> dict[str, Any]:
    model = served.model
    inputs = [describe_tensor(name, spec.dtype, spec.shape) for name, spec in model.inputs.items()]
    for told in inputs:
        if columns := served.problem.columns.get(told["name"]):
            told["parameters"] = {"columns": list(columns)}
    return {
        "name": served.problem.name,
        "versions": [str(served.version.number)],
        "platform": served.engine,
        "inputs": inputs,
        "outputs": [describe_tensor(name, str(array.dtype), array.shape[1:]) for name, array in model.outputs.items()],
    }


# --- health and metrics --------------------------------------------------------------------------------------------


def _add_health(app: FastAPI, served: Sequence[ServedProblem], metrics: ServingMetrics) -> None:
    tags: list[Any] = ["health"]

    @app.get("/v2", tags=tags)
    async def describe_server() -> dict[str, Any]:
        return {"name": "modelkeep", "version": __version__, "extensions": []}

    @app.get("/v2/health/live", tags=tags)
    async def is_live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready", tags=tags)
    async def is_ready() -> dict[str, bool]:
        """Models are loaded and compiled before the first request is taken on."""
        return {"ready": True}

    @app.get("/metrics", tags=tags, response_class=Response)
    async def show_metrics() -> Response:
        """In the format of Prometheus."""
        text, kind = metrics.render()
        return Response(text, media_type=kind)


# --- errors --------------------------------------------------------------------------------------------------------


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def refuse_invalid(_: Request, fault: RequestValidationError) -> Response:
        faults = fault.errors()
        if faults[0]["type"] == "json_invalid":
            return _refuse(400, f"The body is not JSON: {faults[0]['ctx']['error']}.")
        fields = {_place(one["loc"]): _fault(one) for one in faults[:_MOST_FAULTS]}
        first = next(iter(fields))
        return _refuse(422, f"{first}: {fields[first]}", fields)

    @app.exception_handler(StarletteHTTPException)
    async def refuse(request: Request, fault: StarletteHTTPException) -> Response:
        error = str(fault.detail)
        if error == "Not Found":  # said by the router, which knows no such path
            error = f"There is nothing at {request.url.path}; /openapi.json names what there is."
        return _refuse(fault.status_code, error, headers=fault.headers)

    @app.exception_handler(FileInvalid)
    async def refuse_file(_: Request, fault: FileInvalid) -> Response:
        return _refuse(422, f"{fault.field}: {fault.what}", {fault.field: fault.what})

    @app.exception_handler(TensorInvalid)
    async def refuse_tensor(_: Request, fault: TensorInvalid) -> Response:
        return _refuse(400, _sentence(fault))

    @app.exception_handler(PredictionsInvalid)
    async def refuse_values(_: Request, fault: PredictionsInvalid) -> Response:
        return _refuse(422, f"The model has no answer to these values. {fault.what}")

    @app.exception_handler(Exception)
    async def say_fault(_: Request, fault: Exception) -> Response:
        return _refuse(500, "The server failed to answer; its log says why.")


def _fault(one: Mapping[str, Any]) -> str:
    if one["loc"] == ("body",) and one["type"] != "missing":  # curl's -d says that it sends a form
        return "A JSON object is expected, with the header Content-Type: application/json"
    return str(one["msg"]).removeprefix("Value error, ")


def _place(location: Sequence[Any]) -> str:
    """("body", "rows", 3, "RM") → "rows[3].RM"."""
    text = ""
    for part in location[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "body"


def _sentence(fault: TensorInvalid) -> str:
    return f"{fault.what} Expected {fault.expected}; received {fault.received}."


def _refuse(
    code: int, error: str, fields: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    told = Told(error=error, fields=dict(fields or {})).model_dump(exclude_defaults=True)
    return JSONResponse(told, code, dict(headers) if headers else None)
