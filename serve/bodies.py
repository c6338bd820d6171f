"""How bodies are read, and described in the OpenAPI document."""

from typing import Any

from fastapi import FastAPI, Request
from pydantic import TypeAdapter, ValidationError
from pydantic.json_schema import models_json_schema

from rlhf_ray.feedback import entries

from serve import errors
from serve.errors import Refused
from serve.orders import Refusal
from serve.schemas import BODIES

REF = "#/components/schemas/{model}"
USER: TypeAdapter[str] = TypeAdapter(entries.Name)


def describe(app: FastAPI) -> None:
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


def user_in(request: Request) -> str | None:
    """Whom the query names. Raises Refused."""
    user = request.query_params.get("user")
    try:
        return None if user is None else USER.validate_python(user)
    except ValidationError:
        raise Refused(Refusal(400, "user: expected 1 to 128 printable characters", "user")) from None


def count_in(request: Request, name: str, default: int, most: int) -> int:
    """A whole number from 1 to `most` of the query. Raises Refused."""
    said = request.query_params.get(name, str(default))
    if not (said.isascii() and said.isdigit() and len(said) <= len(str(most)) and 1 <= int(said) <= most):
        raise Refused(Refusal(400, f"{name}: expected a number from 1 to {most}", name))
    return int(said)
