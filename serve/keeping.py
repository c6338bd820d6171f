"""What is answered is kept: a completion is in the ledger before its client has the end of it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.completion_ids import CompletionIds
from rlhf_ray.feedback.entries import Completion, Entry
from rlhf_ray.feedback.ledger import Ledger, LedgerFull

from serve.errors import Refused
from serve.orders import Answer, Order, Refusal, Said
from serve.verdicts import Verdict

LOG = logging.getLogger(__name__)
FULL = Refusal(507, "the disk is full: nothing can be kept")
BROKEN = Refusal(503, "the ledger cannot be read or written", after_s=5)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Given:
    """A completion on its way to its client. `pair` is the same for two that are shown side by side."""

    name: str
    arm: str
    order: Order
    answer: Answer
    said: Said
    verdict: Verdict | None = None
    pair: str = ""


async def looked_up(read: Callable[..., Found], *words: Any) -> Found:
    """What a ledger's reader finds, beside the loop. Raises Refused where it cannot be read."""
    try:
        return await asyncio.to_thread(read, *words)
    except (OSError, BadInput) as error:
        LOG.error("the ledger cannot be read: %s", error)
        raise Refused(BROKEN) from None


class Keeper:
    """Names completions and puts them, and votes on them, into the ledger."""

    def __init__(self, ledger: Ledger, ids: CompletionIds) -> None:
        self.ledger, self.ids = ledger, ids

    async def keep(self, given: Sequence[Given]) -> None:
        """Returns when all are on the disk. Raises Refused where they cannot be."""
        await self.append([self._entry(each) for each in given])

    async def append(self, entries: Sequence[Entry]) -> None:
        try:
            await asyncio.gather(*map(self.ledger.aappend, entries))
        except LedgerFull as error:
            LOG.error("%s", error)
            raise Refused(FULL) from None
        except OSError as error:
            LOG.error("the ledger cannot be written: %s", error)
            raise Refused(BROKEN) from None

    def _entry(self, given: Given) -> Completion:
        order, answer, said = given.order, given.answer, given.said
        return Completion(
            completion_id=given.name,
            prompt=order.asked,
            completion=said.text.replace("\0", "\ufffd"),  # which no file of ours holds
            token_ids=said.tokens,
            logprobs=said.logprobs,
            model_version=answer.version,
            model_digest=answer.digest,
            sampling={
                "temperature": order.temperature,
                "top_p": order.top_p,
                "max_tokens": order.most_tokens,
                "stop": list(order.stop),
                "sample": said.sample,
                "finish": said.finish,
            },
            seed=order.seed,
            arm=given.arm,
            pair=given.pair,
            score=given.verdict.score if given.verdict else None,
            time=self.ledger.now(),
        )
