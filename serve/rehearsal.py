"""A model is tried before anybody is answered by it: on what it was asked last in its training.

Its answers must be finite, end by themselves, and not be one and the same; a reward model must tell answers apart.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite

from rlhf_ray.config import BadInput
from rlhf_ray.evaluation.texts import repetition

from serve.generator import Generator
from serve.orders import Answer, Order, Refusal, Said
from serve.reward import Reward
from serve.verdicts import Pair, Verdict

ENDED = 0.5  # share of the answers that must end by themselves
EMPTY = 2.0  # tokens an answer; with a mean below, the model just ends
ALIKE = 0.5  # share of the prompts that may be given one and the same answer
REPEATED = 0.5  # mean share of an answer's word pairs that it may have said before
ANYTHING = [Pair("The", " the"), Pair("The", " a")]  # for a model of whose training nothing is known


@contextmanager
def mistakes() -> Iterator[list[str]]:
    """Collects what is wrong with a model; that it could not be loaded or used at all, too."""
    found: list[str] = []
    try:
        yield found
    except (BadInput, OSError, RuntimeError, ValueError, IndexError) as error:
        logging.getLogger(__name__).exception("a model that was tried")
        found.append(f"it could not be used: {next(iter(str(error).splitlines()), type(error).__name__)}")


async def try_generator(generator: Generator, rollouts: Sequence[Pair]) -> str:
    """What is wrong with its answers; empty where nothing is. Of a model without a run, only that they are finite."""
    prompts = [pair.prompt for pair in rollouts or ANYTHING][: generator.config.slots]
    orders = [Order(prompt, seed) for seed, prompt in enumerate(prompts)]
    answers = await asyncio.gather(*(generator.complete(order) for order in orders))
    for answer in answers:
        if isinstance(answer, Refusal):
            return answer.message
    said = [sample for answer in answers if isinstance(answer, Answer) for sample in answer.said]
    if not all(isfinite(likely) for each in said for likely in each.logprobs):
        return "expected answers with finite log-probabilities, got some that are not numbers"
    return _wrong_with(said) if rollouts else ""


def _wrong_with(said: Sequence[Said]) -> str:
    ended = sum(each.ended for each in said) / len(said)
    if ended < ENDED:
        return f"expected at least {ENDED:.0%} of its answers to end by themselves, got {ended:.0%}"
    tokens = sum(len(each.tokens) for each in said) / len(said)
    if tokens < EMPTY:
        return f"expected answers of at least {EMPTY:g} tokens on average, got {tokens:.1f}"
    texts = [each.text for each in said]
    alike = Counter(texts).most_common(1)[0][1] / len(said)
    if len(said) > 1 and alike > ALIKE:
        return f"expected one answer for at most {ALIKE:.0%} of the prompts, got one for {alike:.0%}"
    repeated = repetition(texts)
    if repeated > REPEATED:
        return f"expected at most {REPEATED:.0%} of an answer's word pairs to be repeated, got {repeated:.0%}"
    return ""


def try_reward(reward: Reward, rollouts: Sequence[Pair]) -> str:
    """What is wrong with its verdicts; empty where nothing is."""
    verdicts = reward.judge(list(rollouts or ANYTHING))
    for verdict in verdicts:
        if isinstance(verdict, Refusal):
            return verdict.message
    scores = [verdict.score for verdict in verdicts if isinstance(verdict, Verdict)]
    if not all(map(isfinite, scores)):
        return "expected finite scores, got some that are not numbers"
    if len(scores) > 1 and len(set(scores)) == 1:
        return "expected scores that tell answers apart, got the same one for all"
    return ""
