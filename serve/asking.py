"""What the page asks: an analysis, or two of different models side by side, without telling whose is whose."""

from dataclasses import replace
from typing import Any

from rlhf_ray.incidents.incident import ask_about

from serve.completions import Completions, identity
from serve.errors import Refused
from serve.orders import Order, Refusal
from serve.schemas import AskBody

SIDES = ("tuned", "sft")


class Asking:
    """The names of the models come with the answer to a vote, not before. Raises Refused."""

    def __init__(self, completions: Completions) -> None:
        self.completions = completions

    async def answers(self, body: AskBody, person: str, key: str) -> dict[str, Any]:
        mark, seed = identity(None, person, key, body.model_dump_json() if key else "")
        order, arms = Order(prompt_of(body), seed, as_trained=True), self._arms(body, person)
        said = await self.completions.said([(arm, order) for arm in arms])
        each = [self.completions.given(arm, order, answer, mark) for arm, answer in zip(arms, said, strict=True)]
        given = [replace(one, pair=mark if body.side_by_side else "") for (one,) in each]
        await self.completions.keep(given)
        given.sort(key=lambda one: one.name)  # in no order that anybody could tell
        shown = [{"completion_id": one.name, "text": one.said.text} for one in given]
        return {"object": "answers", "prompt": order.asked, "answers": shown}

    def _arms(self, body: AskBody, person: str) -> tuple[str, ...]:
        if not body.side_by_side:
            return (self.completions.arm(None, person),)
        if not set(SIDES) <= self.completions.speakers.keys():
            raise Refused(Refusal(400, f"expected a server of {' and '.join(SIDES)}", "side_by_side"))
        return SIDES


def prompt_of(body: AskBody) -> str:
    """Its words in one line, and a line for each finding."""
    lines = [" ".join(line.split()).removeprefix("- ") for line in (body.evidence or "").splitlines()]
    return ask_about(" ".join(body.incident.split()).rstrip("."), filter(None, lines))
