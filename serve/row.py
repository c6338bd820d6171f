"""A row: one sample of an order while it is being said, and the ticket that all samples of an order share."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.seeds import derive

from serve.orders import Order, Said
from serve.telling import Telling


@dataclass(eq=False)
class Ticket:
    """An order at work. `cancelled` is read at every step."""

    order: Order
    prompt: list[int]
    receive: Callable[["Ticket", list[Said]], None]
    streams: bool
    most_tokens: int
    cancelled: bool = False
    done: list[Said] = field(default_factory=list)

    def cancel(self) -> None:
        self.cancelled = True


Parcel = list[tuple[Ticket, list[Said]]]


def hand_out(parcel: Parcel) -> None:
    """Each ticket gets what is its own. A ticket of a dead engine gets nothing: no samples at all."""
    for ticket, said in parcel:
        ticket.receive(ticket, said)


class Row:
    """One sample that is being said, in its slot."""

    def __init__(self, ticket: Ticket, sample: int, slot: int, tokenizer: PreTrainedTokenizerBase) -> None:
        self.ticket, self.slot, self.said = ticket, slot, Said(sample)
        chance = torch.Generator().manual_seed(derive(ticket.order.seed, sample))
        self.numbers = torch.rand(ticket.most_tokens, generator=chance, dtype=torch.float64).tolist()
        self.is_heard = ticket.streams or bool(ticket.order.stop)  # else its text is made at the end, in one go
        self.telling = Telling(tokenizer, ticket.order.stop)
        self.told = 0

    @property
    def number(self) -> float:
        """What decides the next token."""
        return self.numbers[len(self.said.tokens)]

    def hear(self, token: int, likely: float, ends: frozenset[int]) -> bool:
        """One more token of its own. Says whether it is the last."""
        said = self.said
        said.tokens.append(token)
        said.logprobs.append(likely)
        if token in ends:
            said.finish, said.ended = "stop", True
        elif self.is_heard:
            self.telling.hear(token)
            if self.telling.stopped:
                said.finish = "stop"
        if not said.finish and len(said.tokens) == len(self.numbers):
            said.finish = "length"
        return said.finish is not None

    def piece(self) -> Said | None:
        """What a listener has not heard yet; None where there is nothing to hear."""
        text = self.telling.rest(self._own()) if self.said.finish else self.telling.fresh()
        if not text and not self.said.finish:
            return None
        begin, self.told = self.told, len(self.said.tokens)
        return self.said.since(begin, text)

    def whole(self) -> Said:
        """All of it, with its text."""
        self.said.text = self.telling.rest(self._own())
        return self.said

    def _own(self) -> list[int]:
        return self.said.tokens[:-1] if self.said.ended else self.said.tokens
