"""The doors: one ASGI application that knows paths and schemas, and no model."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from rlhf_ray.feedback.completion_ids import CompletionIds
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.feedback.reader import Reader
from rlhf_ray.feedback.secret import read_secret

from serve import answers, errors
from serve.artefact import REWARD, Artefact
from serve.asking import Asking
from serve.bodies import count_in, describe, idempotency_key, read, takes, user_in
from serve.completions import Completions, Judge, Speaker
from serve.dashboard import Dashboard
from serve.errors import Refused
from serve.feedback import Feedback
from serve.gate import Count, Gate
from serve.keeping import Keeper
from serve.keys import Keys
from serve.latency import Latency
from serve.orders import Refusal
from serve.pages import add_pages
from serve.people import Visitors, person_in
from serve.promotion import Promotion
from serve.schemas import BODIES, AskBody, ChatBody, CompletionBody, PromoteBody, RollbackBody, VoteBody
from serve.scores import Scores
from serve.versions import Versions


@dataclass(frozen=True)
class Government:
    """What an admin may see and do."""

    promotion: Promotion
    processes: Callable[[], Awaitable[list[dict[str, Any]]]]


def doors(
    speakers: Mapping[str, Speaker],
    judge: Judge | None,
    versions: Versions,
    *,
    split: Mapping[str, float],
    govern: Government,
    is_ready: Callable[[], Awaitable[bool]],
    keys: Keys | None,
    ledger: Ledger | None,
    timeout_s: float,
    most_samples: int,
    count: Count,
) -> ASGIApp:
    """The application, behind its gate. `versions` says what each of the speakers and the judge is now.

    A request has `timeout_s`, and may ask for `most_samples`: more would never find room together. Without a `ledger`
    nothing is kept, no votes are taken, and there are no pages.
    """
    app = FastAPI(title="rlhf_ray", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    secret = read_secret(ledger.folder) if ledger else bytes(32)
    ids, latency, visitors = CompletionIds(secret), Latency(), Visitors(secret) if ledger else None
    keeper = Keeper(ledger, ids) if ledger else None
    completions = Completions(speakers, judge, ids, keeper, versions=versions, split=split, most_samples=most_samples)
    _speak(app, completions)
    _vote(app, Feedback(keeper, judge, versions) if keeper else None)
    if ledger and visitors:
        add_pages(app, visitors.welcome)
        _ask(app, Asking(completions))
        _show(app, Dashboard(Reader(ledger.folder), speakers, versions, latency))
    if judge:
        _judge(app, Scores(judge, versions))
    _name(app, versions)
    _govern(app, govern)
    _watch(app, is_ready)
    _refuse(app)
    describe(app)

    def counting(door: str, status: int, seconds: float) -> None:
        latency(door, status, seconds)
        count(door, status, seconds)

    return Gate(app, keys, visitors, timeout_s, counting)


def _speak(app: FastAPI, completions: Completions) -> None:
    async def speak(request: Request, kind: type[CompletionBody] | type[ChatBody]) -> Response:
        body, key = await read(request, kind), idempotency_key(request)
        person = person_in(request).speaking_for(body.user)
        if body.stream:
            events = await completions.begin(body, person, key)
            return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        return JSONResponse(await completions.answer(body, person, key))

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


def _vote(app: FastAPI, feedback: Feedback | None) -> None:
    def kept() -> Feedback:
        if not feedback:
            raise Refused(Refusal(404, "no votes are taken: the server was started without a ledger"))
        return feedback

    @app.post("/v1/feedback", openapi_extra=takes(VoteBody))
    async def vote(request: Request) -> Response:
        """A thumb on a completion. A person's last one counts; it is on the disk when the answer comes."""
        body, key = await read(request, VoteBody), idempotency_key(request)
        return JSONResponse(await kept().vote(body, person_in(request).speaking_for(body.user), key))

    @app.get("/v1/feedback")
    async def own_votes(request: Request) -> Response:
        """The caller's own votes that count, the newest first."""
        person = person_in(request).speaking_for(user_in(request))
        return JSONResponse(await kept().own(person, count_in(request, "limit", 50, 1000)))


def _ask(app: FastAPI, asking: Asking) -> None:
    @app.post("/page/answers", openapi_extra=takes(AskBody))
    async def ask(request: Request) -> Response:
        """An analysis for the page, or two, without the names of the models."""
        body, key = await read(request, AskBody), idempotency_key(request)
        return JSONResponse(await asking.answers(body, person_in(request).name, key))


def _show(app: FastAPI, dashboard: Dashboard) -> None:
    @app.get("/dashboard/data")
    async def figures() -> Response:
        """What the votes say, and how the server does."""
        return JSONResponse(await dashboard.figures())


def _name(app: FastAPI, versions: Versions) -> None:
    def card(model: Artefact) -> dict[str, Any]:
        return answers.card(model, "reward" if model.name == REWARD else "generator")

    @app.get("/v1/models")
    async def list_models() -> Response:
        """What is served, the default first, with version and digest."""
        return JSONResponse({"object": "list", "data": [card(model) for model in versions.now().values()]})

    @app.get("/v1/models/{name}")
    async def show_model(name: str) -> Response:
        models = versions.now()
        if name not in models:
            raise Refused(Refusal(404, f"expected one of {', '.join(models)}", "model"))
        return JSONResponse(card(models[name]))


def _govern(app: FastAPI, govern: Government) -> None:
    @app.get("/admin/versions")
    async def told() -> Response:
        """What is served, what a rollback returns to, and every change."""
        return JSONResponse(govern.promotion.told())

    @app.get("/admin/processes")
    async def processes() -> Response:
        """Who serves: names and process ids."""
        return JSONResponse({"object": "list", "data": await govern.processes()})

    @app.post("/admin/promote", openapi_extra=takes(PromoteBody))
    async def promote(request: Request) -> Response:
        """Serve another run's tuned model, and its reward model; answered when every request gets them."""
        body, key = await read(request, PromoteBody), idempotency_key(request)
        return JSONResponse(await govern.promotion.promote(body.run, person_in(request).name, key))

    @app.post("/admin/rollback", openapi_extra=takes(RollbackBody))
    async def rollback(request: Request) -> Response:
        """Serve what was served before the last promotion."""
        await read(request, RollbackBody)
        if not (key := idempotency_key(request)):
            raise Refused(Refusal(400, "expected an Idempotency-Key: two ways back are not one"))
        return JSONResponse(await govern.promotion.rollback(person_in(request).name, key))


def _watch(app: FastAPI, is_ready: Callable[[], Awaitable[bool]]) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"})

    @app.head("/readyz", include_in_schema=False)
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
