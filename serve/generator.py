"""The Generator answers orders: text to tokens, the engine, and back. A plain class, of one version."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from rlhf_ray.chat import chat_ids, messages_of, plain_ids
from rlhf_ray.config import BadInput

from serve.artefact import Artefact
from serve.engine import Busy, Engine
from serve.generation import Generation
from serve.orders import Answer, Load, Order, Refusal, Said
from serve.row import Parcel, Ticket, hand_out

PATIENCE_S = 60.0  # an engine with work to do that says no token for so long is not well


class Generator:
    def __init__(self, model: Artefact, config: Generation) -> None:
        model.verify()
        self.model, self.config = model, config
        self.engine = Engine(model.folder, config, self._deliver)
        self.tokenizer = self.engine.tokenizer
        self.loop: asyncio.AbstractEventLoop | None = None
        self.open = 0  # orders

    def about(self) -> Artefact:
        return self.model

    async def load(self) -> Load:
        return Load(self.config.slots, len(self.engine.rows), self.engine.rows_waiting, self.engine.drawn)

    async def complete(self, order: Order) -> Answer | Refusal:
        """All samples at once. Whoever is cancelled while waiting stops the engine at its next step."""
        whole: asyncio.Future[list[Said]] = asyncio.get_running_loop().create_future()

        def receive(ticket: Ticket, said: list[Said]) -> None:
            if not whole.done():
                whole.set_result(said)

        begun = self._begin(order, receive, streams=False)
        if isinstance(begun, Refusal):
            return begun
        try:
            return self._answer(begun, await whole)
        finally:
            self._end(begun)

    async def stream(self, order: Order) -> AsyncIterator[Answer | Refusal]:
        """Some more of each sample, as it is said."""
        pieces: asyncio.Queue[list[Said]] = asyncio.Queue()
        begun = self._begin(order, lambda ticket, said: pieces.put_nowait(said), streams=True)
        if isinstance(begun, Refusal):
            yield begun
            return
        left = order.samples
        try:
            while left:
                fresh = await pieces.get()
                while fresh and not pieces.empty():  # who listens slowly hears more at once
                    more = pieces.get_nowait()
                    fresh = fresh + more if more else []
                joined = joined_by_sample(fresh)
                left -= sum(piece.finish is not None for piece in joined)
                yield self._answer(begun, joined)
        finally:
            self._end(begun)

    def is_idle(self) -> bool:
        return not self.open

    def close(self) -> None:
        self.engine.close()

    def check_health(self) -> None:
        """Raises RuntimeError where the engine has died or stands still."""
        if not self.engine.is_well(PATIENCE_S):
            raise RuntimeError(f"{self.model.name}: the engine says nothing") from self.engine.failure

    def _begin(self, order: Order, receive: Callable, *, streams: bool) -> Ticket | Refusal:
        self.loop = asyncio.get_running_loop()
        refusal = self._refuse(order)
        prompt = refusal or self._encode(order)
        if isinstance(prompt, Refusal):
            return prompt
        try:
            ticket = self.engine.submit(order, prompt, receive, streams=streams)
        except Busy:
            return Refusal(429, f"{self.model.name}: as many wait as may wait; try again later")
        self.open += 1
        return ticket

    def _end(self, ticket: Ticket) -> None:
        ticket.cancel()
        self.open -= 1

    def _refuse(self, order: Order) -> Refusal | None:
        most, slots = self.config.response_tokens, self.config.slots
        if order.most_tokens is not None and order.most_tokens > most:
            return Refusal(400, f"expected at most {most}, got more", "max_tokens")
        if order.samples > slots:
            return Refusal(400, f"expected at most {slots} samples a prompt, got more", "n")
        return None

    def _encode(self, order: Order) -> list[int] | Refusal:
        prompt = order.prompt
        if isinstance(prompt, str) and order.as_trained and self.tokenizer.chat_template:
            prompt = messages_of(prompt)
        ids = plain_ids(self.tokenizer, prompt) if isinstance(prompt, str) else self._chat(prompt)
        if isinstance(ids, Refusal):
            return ids
        if not 0 < len(ids) <= self.config.prompt_tokens:
            field = "prompt" if isinstance(order.prompt, str) else "messages"
            return Refusal(400, f"expected 1 to {self.config.prompt_tokens} tokens, got {len(ids)}", field)
        return ids

    def _chat(self, messages: list[dict[str, str]]) -> list[int] | Refusal:
        if not self.tokenizer.chat_template:
            return Refusal(400, f"{self.model.name} has no chat template; use /v1/completions", "messages")
        try:
            return chat_ids(self.tokenizer, messages)
        except BadInput:
            return Refusal(400, "expected roles in an order that the model's chat template knows", "messages")

    def _answer(self, ticket: Ticket, said: list[Said]) -> Answer:
        if not said:
            raise RuntimeError(f"{self.model.name}: the engine has died") from self.engine.failure
        return Answer(said, len(ticket.prompt), self.model.digest)

    def _deliver(self, parcel: Parcel) -> None:
        """From the engine's thread to that of the loop: one wake-up a step, whoever listens."""
        if self.loop:  # nothing is delivered that was not asked for
            with contextlib.suppress(RuntimeError):  # a loop that has ended: who listened is gone, the engine is not
                self.loop.call_soon_threadsafe(hand_out, parcel)


def joined_by_sample(pieces: list[Said]) -> list[Said]:
    """One piece a sample: clients read each index once in a chunk."""
    joined: dict[int, Said] = {}
    for piece in pieces:
        before = joined.get(piece.sample)
        joined[piece.sample] = before.then(piece) if before else piece
    return list(joined.values())
