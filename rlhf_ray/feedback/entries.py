"""What a ledger keeps: completions that were given, and votes on them."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from rlhf_ray.config import BadInput, Strict

MOST_CHARACTERS = 200_000  # of a prompt or a completion
MOST_TOKENS = 131_072
FIRST_YEAR, LAST_YEAR = 1970, 2200


def _text(value: Any, most: int, *, least: int = 0) -> str:
    """What every file can hold. Says what is wrong without repeating it: it may be long, or no UTF-8."""
    if not isinstance(value, str):
        raise ValueError(f"expected a text, got {type(value).__name__}")
    if not least <= len(value) <= most:
        raise ValueError(f"expected {least} to {most} characters, got {len(value)}")
    if "\0" in value:
        raise ValueError("expected a text without NUL characters, got one with them")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("expected whole characters, got half a one (a lone surrogate)") from None
    return value


def _name(value: Any, most: int = 128) -> str:
    name = _text(value, most, least=1)
    if not name.isprintable():
        raise ValueError("expected printable characters, got others")
    return name


def _thumb(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"expected 1 or -1, got {type(value).__name__}")
    if value not in (1, -1):
        raise ValueError("expected 1 or -1, got another number")
    return value


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("expected a time with its zone, got one without")
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError(f"expected a year from {FIRST_YEAR} to {LAST_YEAR}, got {value.year}")
    return value.astimezone(UTC)


def _long(most: int) -> BeforeValidator:
    return BeforeValidator(partial(_text, most=most))


Name = Annotated[str, BeforeValidator(_name)]
Person = Annotated[str, BeforeValidator(partial(_name, most=256))]
Thumb = Annotated[int, BeforeValidator(_thumb)]
Comment = Annotated[str, _long(4000)]
Time = Annotated[datetime, AfterValidator(_utc)]
Token = Annotated[int, Field(ge=0, lt=2**31)]
Setting = int | float | Annotated[str, _long(1000)] | bool | list[Annotated[str, _long(1000)]] | None


class Completion(Strict):
    """A text that a model gave, and everything that is needed to learn from a vote on it."""

    kind: Literal["completion"] = "completion"
    completion_id: Name
    prompt: Annotated[str, _long(MOST_CHARACTERS)]
    completion: Annotated[str, _long(MOST_CHARACTERS)]
    token_ids: list[Token] = Field([], max_length=MOST_TOKENS, description="Of the completion.")
    logprobs: list[float] = Field([], max_length=MOST_TOKENS, description="Of the tokens, as they were sampled (nats).")
    model_version: Name
    model_digest: Annotated[str, _long(128)] = ""
    sampling: dict[Name, Setting] = Field({}, max_length=32, description="Temperature, top_p and such.")
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    arm: Annotated[str, _long(64)] = Field("", description="Of a comparison, such as tuned or sft.")
    pair: Annotated[str, _long(64)] = Field("", description="The same for two that were shown side by side.")
    score: float | None = Field(None, description="The reward model's, where it was asked.")
    time: Time

    @model_validator(mode="after")
    def _a_logprob_a_token(self) -> "Completion":
        if self.logprobs and len(self.logprobs) != len(self.token_ids):
            raise ValueError(f"logprobs: expected {len(self.token_ids)}, one a token, got {len(self.logprobs)}")
        return self


class Vote(Strict):
    """A person's thumb, up (1) or down (-1), on a completion."""

    kind: Literal["vote"] = "vote"
    vote_id: Name = Field(description="The client's idempotency key.")
    completion_id: Name
    person: Person
    label: Thumb
    comment: Comment | None = None
    score: float | None = Field(None, description="The reward model's of the completion, when the vote came.")
    probability: float | None = Field(None, description="Of a thumb up, as the reward model saw it then.")
    judge: Annotated[str, _long(128)] = Field("", description="The version of the reward model that said so.")
    time: Time


Entry = Completion | Vote
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Discriminator("kind")])


def to_json(entry: Entry) -> bytes:
    return entry.model_dump_json().encode()


def from_json(data: bytes, where: str) -> Entry:
    """Raises BadInput, naming the place, where this version knows no such entry."""
    try:
        return _ENTRY.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise BadInput(f"{where}: {path}: expected an entry that this version knows, got {first['msg']}") from None
