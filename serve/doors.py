"""The doors: one ASGI application that knows paths and schemas, and no model."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from serve import answers, errors
from serve.artefact import Artefact
from serve.completions import Completions, Judge, Speaker
from serve.errors import Refused
from serve.gate import Count, Gate
from serve.keys import Keys
from serve.orders import Refusal
from serve.schemas import BODIES, ChatBody, CompletionBody
from serve.scores import Scores

Kind = TypeVar("Kind")
REF = "#/components/schemas/{model}"


def doors(
    speakers: Mapping[str, Speaker],
    judge: Judge | None,
    models: Mapping[str, Artefact],
    *,
    reward: Artefact | None,
    is_ready: Callable[[], Awaitable[bool]],
    keys: Keys | None,
    timeout_s: float,
    count: Count,
) -> ASGIApp:
    """The application, behind its gate. `models` are the speakers' and `reward` the judge's; its name is served too."""
    app = FastAPI(title="rlhf_ray", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    _speak(app, Completions(speakers, judge))
    if judge and reward:
        _judge(app, Scores(judge, reward))
    _name(app, models, reward)
    _watch(app, is_ready)
    _refuse(app)
    _describe(app)
    return Gate(app, keys, timeout_s, count)


def _speak(app: FastAPI, completions: Completions) -> None:
    async def speak(request: Request, kind: type[CompletionBody] | type[ChatBody]) -> Response:
        body, key = await read(request, kind), idempotency_key(request)
        if body.stream:
            events = await completions.begin(body, key)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        return JSONResponse(await completions.answer(body, key))

    @app.post("/v1/completions", openapi_extra=takes(CompletionBody))
    async def complete(request: Request) -> Response:
        """OpenAI's completions; `best_of` is ranked by the reward model."""
        return await speak(request, CompletionBody)

    @app.post("/v1/chat/completions", openapi_extra=takes(ChatBody))
    async def chat(request: Request) -> Response:
        """OpenAI's chat completions, for models with a chat template."""
        return await speak(request, ChatBody)


def _judge(app: FastAPI, scores: Scores) -> None:
    doors: dict[str, Callable[[Any], Awaitable[dict[str, Any]]]] = {
        "/v1/score": scores.score_pairs,
        "/score": scores.score,
        "/classify": scores.classify,
        "/v1/rerank": scores.rerank,
        "/rerank": scores.rerank,
    }

    def door(path: str, answer: Callable[[Any], Awaitable[dict[str, Any]]]) -> None:
        @app.post(path, openapi_extra=takes(BODIES[path]), name=path)
        async def judge(request: Request) -> Response:
            return JSONResponse(await answer(await read(request, BODIES[path])))

    for path, answer in doors.items():
        door(path, answer)


def _name(app: FastAPI, models: Mapping[str, Artefact], reward: Artefact | None) -> None:
    cards = {name: answers.card(model, "generator") for name, model in models.items()}
    if reward:
        cards[reward.name] = answers.card(reward, "reward")

    @app.get("/v1/models")
    async def list_models() -> Response:
        """What is served, the default first, with version and digest."""
        return JSONResponse({"object": "list", "data": list(cards.values())})

    @app.get("/v1/models/{name}")
    async def show_model(name: str) -> Response:
        if name not in cards:
            raise Refused(Refusal(404, f"expected one of {', '.join(cards)}", "model"))
        return JSONResponse(cards[name])


def _watch(app: FastAPI, is_ready: Callable[[], Awaitable[bool]]) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Every model answers."""
        ready = await is_ready()
        return JSONResponse({"status": "ok"}) if ready else errors.answer(Refusal(503, "not every model is ready"))


def _refuse(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(request: Request, refused: Refused) -> Response:
        return errors.answer(refused.refusal)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return errors.answer(Refusal(error.status_code, str(error.detail)))

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return errors.answer(Refusal(500, "a fault of the server's; its log says more"))


def _describe(app: FastAPI) -> None:
    """Put the bodies' schemas where the paths refer to them."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        whole = described()
        kinds: list[Any] = [(kind, "validation") for kind in set(BODIES.values())]
        _, found = models_json_schema(kinds, ref_template=REF)
        whole.setdefault("components", {}).setdefault("schemas", {}).update(found["$defs"])
        return whole

    app.openapi = openapi  # type: ignore[method-assign]


def takes(kind: type) -> dict[str, Any]:
    """What a path's entry in the OpenAPI description says of its body."""
    schema = {"$ref": REF.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


async def read(request: Request, kind: Any) -> Any:
    """The body as a `kind`. Raises Refused where it is none.

    Only JSON that says so is read: a page from elsewhere cannot make a browser send that unasked.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(Refusal(415, "expected Content-Type: application/json"))
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise Refused(errors.mistake(error)) from None


def idempotency_key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if len(key) > 128 or not key.isprintable():
        raise Refused(Refusal(400, "expected an Idempotency-Key of at most 128 printable characters"))
    return key
