"""Errors in OpenAI's form: short, and without a word of what was sent."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import ValidationError

from serve.orders import Refusal
from serve.schemas import NOT_SERVED

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
LONGEST = 400  # characters of a message


class Refused(Exception):
    """Ends a request with this refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def granted(answer: Any) -> Any:
    """What was asked for. Raises Refused where it was not given."""
    if isinstance(answer, Refusal):
        raise Refused(answer)
    return answer


def said(refusal: Refusal) -> dict[str, Any]:
    """The body of an error."""
    kind = KINDS.get(refusal.status, "invalid_request_error" if refusal.status < 500 else "server_error")
    return {
        "error": {"message": refusal.message[:LONGEST], "type": kind, "param": refusal.field, "code": refusal.status}
    }


def answer(refusal: Refusal) -> JSONResponse:
    headers: Mapping[str, str] = {"Retry-After": str(refusal.after_s)} if refusal.status in (429, 503) else {}
    return JSONResponse(said(refusal), refusal.status, headers)


def mistake(error: ValidationError) -> Refusal:
    """The first thing that is wrong with a body. Only known names are repeated, never one that a client made up."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    same = [each for each in found if each["loc"][:1] == found[0]["loc"][:1]]  # what each form of a field finds wrong
    first = max(same, key=lambda each: len(each["loc"]))  # the form that came nearest
    if first["type"] == "json_invalid":
        return Refusal(400, "expected a body of valid JSON")
    path, message = first["loc"], first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        is_openais = path[-1] in NOT_SERVED
        path, message = (path, "not served") if is_openais else (path[:-1], "unknown field")
    elif first["type"] == "string_pattern_mismatch":
        message = "expected text without a NUL character"  # no field has another pattern than NO_NUL
    named = [str(part) for part in path if isinstance(part, int) or part.isidentifier()]  # others are pydantic's own
    field = ".".join(named) or None
    return Refusal(400, f"{field}: {message}" if field else message, field)
