"""The engine: a thread that lets rows join and leave a batch at every token.

Each step: let go of those who no longer listen; let all slots say one token; hand out what came of it, in one parcel;
admit those who wait, in their order, as slots are free, and hand out what they say first.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from time import monotonic
from typing import Any

import torch

from rlhf_ray.config import BadInput
from rlhf_ray.models.activations import fuse_activations
from rlhf_ray.models.loading import context_length, load_causal, load_tokenizer
from rlhf_ray.models.slots import Slots, draw, nucleus
from rlhf_ray.workers.engines.own import check_attention

from serve.generation import Generation
from serve.orders import Order
from serve.row import Parcel, Row, Ticket, hand_out

READ_AT_ONCE = 8  # prompts a step: whoever speaks already waits that long at most


class Busy(Exception):
    """As many wait as may wait."""


class Engine:
    """A model, its slots, and the thread that makes them speak. `deliver` is called in that thread."""

    def __init__(self, model: str, config: Generation, deliver: Callable[[Parcel], None] = hand_out) -> None:
        if config.columns > context_length(model):
            raise BadInput(
                f"generation: expected prompt_tokens + response_tokens of at most {context_length(model)}, the context "
                f"of {model}, got {config.columns}"
            )
        self.config, self.deliver = config, deliver
        self.tokenizer = load_tokenizer(model)
        policy = fuse_activations(load_causal(model)).to(config.device)
        check_attention(policy, model, config.columns)
        self.ends = _ends(policy, self.tokenizer.eos_token_id)
        self.slots = Slots(policy, config.slots, config.columns)
        self.waiting: deque[Ticket] = deque()
        self.rows: dict[int, Row] = {}
        self.free = list(range(config.slots))
        self.last = torch.zeros(config.slots, dtype=torch.long, device=config.device)
        self.drawn = 0  # tokens, ever
        self.stepped = monotonic()
        self.failure: BaseException | None = None
        self._changed = threading.Condition()
        self._closed = False
        self.thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.thread.start()

    @property
    def rows_waiting(self) -> int:
        """Of those who still listen."""
        return sum(ticket.order.samples for ticket in list(self.waiting) if not ticket.cancelled)

    def submit(self, order: Order, prompt: list[int], receive: Callable, *, streams: bool = False) -> Ticket:
        """Begin an order. `receive(ticket, said)` gets all samples at the end, or, where it streams, what is fresh.

        Raises Busy where too many wait already.
        """
        most = min(order.most_tokens or self.config.response_tokens, self.config.response_tokens)
        ticket = Ticket(order, prompt, receive, streams, most)
        with self._changed:
            if self.failure or self._closed:
                raise RuntimeError("the engine has stopped") from self.failure
            if self.rows_waiting + order.samples > self.config.queue + len(self.free):
                raise Busy
            self.waiting.append(ticket)
            self._changed.notify()
        return ticket

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self.thread.join()

    def is_well(self, patience_s: float) -> bool:
        """Whether the thread lives and, with work to do, has said a token lately."""
        idle = not self.rows and not self.waiting
        return self.thread.is_alive() and (idle or monotonic() - self.stepped < patience_s)

    def _run(self) -> None:
        try:
            while self._has_work():
                self._step()
                self.stepped = monotonic()
        except BaseException as failure:
            self.failure = failure
            raise
        finally:
            left = {id(row.ticket): row.ticket for row in self.rows.values()} | {id(t): t for t in self.waiting}
            if left:
                self.deliver([(ticket, []) for ticket in left.values()])

    def _has_work(self) -> bool:
        with self._changed:
            while not (self._closed or self.rows or self.waiting):
                self._changed.wait()
                self.stepped = monotonic()
            return not self._closed

    def _step(self) -> None:
        self._forget()
        if self.rows:
            rows = list(self.rows.values())
            with self._handing_out() as parcel:
                self._hear(rows, self.slots.say(self.last), parcel, at=[row.slot for row in rows])
        with self._handing_out() as parcel:  # whoever was answered asks again while these prompts are read
            self._admit(parcel)

    @contextmanager
    def _handing_out(self) -> Iterator[Parcel]:
        """Whatever is in the parcel in the end, though the step has failed."""
        parcel: Parcel = []
        try:
            yield parcel
        finally:
            if parcel:
                self.deliver(parcel)

    def _forget(self) -> None:
        """Let go of those who no longer listen."""
        for row in [row for row in self.rows.values() if row.ticket.cancelled]:
            self._release(row)

    def _admit(self, parcel: Parcel) -> None:
        """Those who wait, in their order: a ticket when there is a slot for each of its samples."""
        for _ in range(READ_AT_ONCE):
            with self._changed:
                while self.waiting and self.waiting[0].cancelled:
                    self.waiting.popleft()
                if not self.waiting or self.waiting[0].order.samples > len(self.free):
                    return
                ticket = self.waiting[0]
                slots = [self.free.pop() for _ in range(ticket.order.samples)]
                rows = [Row(ticket, sample, slot, self.tokenizer) for sample, slot in enumerate(slots)]
                self.rows |= {row.slot: row for row in rows}
                self.waiting.popleft()
            logits = self.slots.read(slots, ticket.prompt).expand(len(rows), -1)
            self._hear(rows, logits, parcel, at=list(range(len(rows))))

    def _hear(self, rows: list[Row], logits: torch.Tensor, parcel: Parcel, at: Sequence[int]) -> None:
        """Draw the next token of `rows`, which are at these places of the logits."""
        uniform, temperature, top_p = [0.5] * len(logits), [1.0] * len(logits), [1.0] * len(logits)
        for row, place in zip(rows, at, strict=True):
            order = row.ticket.order
            uniform[place], temperature[place], top_p[place] = row.number, order.temperature, order.top_p
        here: dict[str, Any] = {"device": logits.device}
        drawn, likely = draw(
            logits,
            torch.tensor(uniform, dtype=torch.float64, **here),
            torch.tensor(temperature, **here),
            torch.tensor(top_p, **here),
        )
        self.last[[row.slot for row in rows]] = drawn[list(at)]
        tokens, logprobs = drawn.tolist(), likely.tolist()
        self.drawn += len(rows)
        for row, place in zip(rows, at, strict=True):
            if row.ticket.order.alternatives is not None:
                self._spell(row, tokens[place], logits[place])
            is_last = row.hear(tokens[place], logprobs[place], self.ends)
            self._tell(row, parcel)
            if is_last:
                self._release(row)

    def _spell(self, row: Row, token: int, logits: torch.Tensor) -> None:
        """Name the token that was drawn from these logits, and the likeliest ones."""
        order = row.ticket.order
        row.said.spelled.append(self.tokenizer.decode([token]))
        scaled = logits.float()[None] / (order.temperature or 1.0)
        if order.top_p < 1:
            scaled = nucleus(scaled, torch.tensor([order.top_p], device=scaled.device))
        best = scaled[0].log_softmax(0).topk(min(order.alternatives or 0, scaled.shape[1]))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        named = [(self.tokenizer.decode([other]), likely) for other, likely in pairs if isfinite(likely)]
        row.said.alternatives.append(named)

    def _tell(self, row: Row, parcel: Parcel) -> None:
        ticket = row.ticket
        if ticket.streams:
            if piece := row.piece():
                parcel.append((ticket, [piece]))
        elif row.said.finish:
            ticket.done.append(row.whole())
            if len(ticket.done) == ticket.order.samples:
                parcel.append((ticket, sorted(ticket.done, key=lambda said: said.sample)))

    def _release(self, row: Row) -> None:
        del self.rows[row.slot]
        self.slots.leave([row.slot])
        self.free.append(row.slot)


def _ends(model: Any, eos: int) -> frozenset[int]:
    """The tokens that end a text: the tokenizer's, and those that the model's own generation config adds."""
    more = model.generation_config.eos_token_id if model.generation_config else None
    return frozenset([eos, *(more if isinstance(more, list) else [] if more is None else [more])])
