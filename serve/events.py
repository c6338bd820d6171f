"""An answer as server-sent events: pieces as they are said, and each sample kept before its end is told."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from serve import answers, errors
from serve.answers import Header
from serve.keeping import Given
from serve.orders import Answer, Refusal, Said


class Events:
    """`given` are the samples, of which nothing is said yet. With `counted` a last event has the count of tokens."""

    def __init__(
        self, header: Header, given: list[Given], keep: Callable[[Sequence[Given]], Awaitable[None]], *, counted: bool
    ) -> None:
        self.header, self.given, self.keep, self.counted = replace(header, id=given[0].name), given, keep, counted

    async def of(self, first: Answer, pieces: AsyncIterator[Answer | Refusal]) -> AsyncIterator[str]:
        answer: Answer | Refusal | None = first
        while answer:
            if isinstance(answer, Refusal):
                yield answers.event(errors.said(answer))
                return
            choices = [self._choice(said) for said in answer.said]
            try:
                if ended := [self.given[said.sample] for said in answer.said if said.finish]:
                    await self.keep(ended)
            except errors.Refused as refused:
                yield answers.event(errors.said(refused.refusal))
                return
            yield answers.event(self.header.body(choices, chunk=True))
            answer = await anext(pieces, None)
        if self.counted:
            tokens = sum(len(given.said.tokens) for given in self.given)
            usage = {"usage": answers.usage(first.prompt_tokens, tokens)}
            yield answers.event(self.header.body([], chunk=True) | usage)
        yield "data: [DONE]\n\n"

    def _choice(self, more: Said) -> dict[str, Any]:
        given = self.given[more.sample]
        choice = answers.piece(given, more, chat=self.header.chat)
        given.said.add(more)
        return choice
