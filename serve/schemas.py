"""What may be sent: every field with its bounds. JSON goes from bytes into these, with nothing parsed in between."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from rlhf_ray.config import Strict
from rlhf_ray.feedback import entries

LONGEST = 65_536  # characters; a body has no more bytes
NO_NUL = r"^[^\x00]*$"
NOT_SERVED = {  # fields of OpenAI's bodies
    "echo",
    "suffix",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "parallel_tool_calls",
    "service_tier",
    "store",
    "metadata",
    "modalities",
    "reasoning_effort",
    "audio",
    "prediction",
}
Text = Annotated[str, StringConstraints(max_length=LONGEST, pattern=NO_NUL)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=NO_NUL)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=NO_NUL)]
MOST = 2**63


class Body(Strict):
    model_config = ConfigDict(**Strict.model_config)

    model: Name | None = Field(None, description="Which model; none: the first of /v1/models, or the reward model.")


class StreamOptions(Strict):
    include_usage: bool = Field(False, description="A last chunk with the count of tokens.")


class Drawing(Body):
    """What both kinds of completion share. Names and meaning are OpenAI's."""

    max_tokens: int | None = Field(None, ge=1, le=100_000, description="Most tokens; none: as many as the model may.")
    temperature: float | None = Field(None, ge=0, le=10, description="0 is greedy; none: 1.")
    top_p: float | None = Field(None, ge=0.001, le=1, description="Draw from the likeliest tokens with this share.")
    n: int | None = Field(None, ge=1, le=128, description="Samples a prompt.")
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = Field(
        None, description="The text ends before any of these."
    )
    seed: int | None = Field(None, ge=-MOST, lt=MOST, description="The same seed gives the same text.")
    stream: bool | None = Field(None, description="Tokens as they are said, by server-sent events.")
    stream_options: StreamOptions | None = None
    user: Name | None = Field(None, description="For whom it is: one of the people who stay with an arm.")

    @model_validator(mode="after")
    def _can_divide(self) -> Self:
        if self.temperature and self.temperature < 0.01:
            raise ValueError("temperature: expected 0 or at least 0.01")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionBody(Drawing):
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=32)]
    best_of: int | None = Field(None, ge=1, le=128, description="Samples, of which the reward model's best n return.")
    logprobs: int | None = Field(None, ge=0, le=5, description="That many likeliest tokens at each place, too.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise ValueError("best_of: expected at least n")
        if self.stream and self.best_of not in (None, self.n or 1):
            raise ValueError("best_of: expected no more than n with stream")
        if self.stream and isinstance(self.prompt, list) and len(self.prompt) > 1:
            raise ValueError("prompt: expected one prompt with stream")
        return self

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text
    name: Name | None = None


class ChatBody(Drawing):
    messages: list[Message] = Field(min_length=1, max_length=64)
    max_completion_tokens: int | None = Field(None, ge=1, le=100_000, description="OpenAI's newer name of max_tokens.")
    logprobs: bool | None = Field(None, description="Log-probabilities of the tokens.")
    top_logprobs: int | None = Field(None, ge=0, le=20, description="That many likeliest tokens at each place, too.")

    @property
    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class PairBody(Strict):
    prompt: Text
    completion: Text


class PairsBody(Body):
    pairs: list[PairBody] = Field(min_length=1, max_length=256)


Texts = Text | Annotated[list[Text], Field(min_length=1, max_length=256)]


class ScoreBody(Body):
    """As vLLM's: one `text_1` for all of `text_2`, or one for each."""

    text_1: Texts
    text_2: Texts

    @model_validator(mode="after")
    def _match(self) -> Self:
        first, second = many(self.text_1), many(self.text_2)
        if len(first) not in (1, len(second)):
            raise ValueError("text_1: expected one text, or as many as text_2")
        return self


class ClassifyBody(Body):
    input: Texts


class RerankBody(Body):
    query: Text
    documents: list[Text] = Field(min_length=1, max_length=256)
    top_n: int | None = Field(None, ge=1, le=256)


class VoteBody(Strict):
    """A thumb, up (1) or down (-1), on a completion."""

    completion_id: entries.Name
    label: entries.Thumb
    comment: entries.Comment | None = None
    user: entries.Name | None = Field(None, description="Whose vote it is, of the people of a key's application.")


class AskBody(Strict):
    """What the page asks for: a Root Cause Analysis."""

    incident: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=NO_NUL)]
    evidence: Text | None = Field(None, description="A finding a line.")
    side_by_side: bool = Field(False, description="Two answers, tuned and sft, in random order.")


class PromoteBody(Strict):
    run: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=NO_NUL)] = Field(
        description="A finished run's folder, in the folder of runs that the server knows."
    )


class RollbackBody(Strict):
    """Empty: there is one way back."""


def many(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


BODIES: dict[str, type[Strict]] = {
    "/v1/completions": CompletionBody,
    "/v1/chat/completions": ChatBody,
    "/v1/score": PairsBody,
    "/score": ScoreBody,
    "/classify": ClassifyBody,
    "/v1/rerank": RerankBody,
    "/rerank": RerankBody,
    "/v1/feedback": VoteBody,
    "/page/answers": AskBody,
    "/admin/promote": PromoteBody,
    "/admin/rollback": RollbackBody,
}
