"""The door of votes: who gave which thumb to what this server said."""

import asyncio
import logging
import secrets
from datetime import datetime
from typing import Any

from rlhf_ray.data.tables import Row
from rlhf_ray.feedback.completion_ids import Expired, Forged, check_age
from rlhf_ray.feedback.entries import Completion, Vote

from serve.artefact import REWARD, Artefact
from serve.completions import Judge
from serve.errors import Refused
from serve.keeping import Keeper, looked_up
from serve.orders import Refusal
from serve.pace import SharedPace
from serve.schemas import VoteBody
from serve.verdicts import Pair, Verdict
from serve.versions import Versions

LOG = logging.getLogger(__name__)
VOTES_A_MINUTE = 60  # of a person
PACE = "pace.sqlite"  # in the ledger's folder: all replicas count in it
JUDGED_WITHIN_S = 2.0  # a vote does not wait longer for what the reward model thinks
UNKNOWN = Refusal(404, "completion_id: expected one that was given with a completion, got another", "completion_id")


class Feedback:
    """Takes votes and shows people their own. Raises Refused."""

    def __init__(self, keeper: Keeper, judge: Judge | None, versions: Versions) -> None:
        self.keeper, self.judge, self.versions = keeper, judge, versions
        self.pace = SharedPace(keeper.ledger.folder / PACE, VOTES_A_MINUTE)

    async def vote(self, body: VoteBody, person: str, key: str) -> dict[str, Any]:
        """Returns when the vote is on the disk. `key` is the vote's id, of which one is made where it is empty."""
        wait = self.pace.wait(person)
        if wait:
            raise Refused(Refusal(429, f"expected at most {VOTES_A_MINUTE} votes a minute", after_s=wait))
        completion = await self._completion(body.completion_id)
        reward = self.versions.now().get(REWARD)
        verdict = await self._verdict(reward, completion)
        vote = Vote(
            vote_id=key or secrets.token_hex(16),
            completion_id=completion.completion_id,
            person=person,
            label=body.label,
            comment=body.comment,
            score=verdict.score if verdict else completion.score,
            probability=verdict.probability if verdict else None,
            judge=reward.version if verdict and reward else "",
            time=self.keeper.ledger.now(),
        )
        await self.keeper.append([vote])
        return told(vote.model_dump() | {"model_version": completion.model_version, "arm": completion.arm})

    async def own(self, person: str, limit: int) -> dict[str, Any]:
        """A person's live votes, the newest first, with the texts."""
        votes = await looked_up(self.keeper.ledger.live_votes, person, limit)
        return {"object": "list", "data": [told(vote) | texts(vote) for vote in reversed(votes)]}

    async def _completion(self, name: str) -> Completion:
        try:
            self.keeper.ids.check(name)
        except Forged:
            raise Refused(UNKNOWN) from None
        completion = await looked_up(self.keeper.ledger.completion, name)
        if not completion:
            raise Refused(UNKNOWN)
        try:
            check_age(completion.time, self.keeper.ledger.now())
        except Expired as error:
            raise Refused(Refusal(410, str(error), "completion_id")) from None
        return completion

    async def _verdict(self, reward: Artefact | None, completion: Completion) -> Verdict | None:
        """None where no reward model is served, or it is too busy: a vote counts without it."""
        if not self.judge or not reward:
            return None
        try:
            async with asyncio.timeout(JUDGED_WITHIN_S):
                (verdict,) = await self.judge.judge(reward, [Pair(completion.prompt, completion.completion)])
        except Exception:  # whatever is wrong with the reward model: it is the vote that counts
            LOG.warning("a vote is kept without the reward model's verdict", exc_info=True)
            return None
        return None if isinstance(verdict, Refusal) else verdict


def told(vote: Row) -> dict[str, Any]:
    """What a person is told of a vote."""
    time: datetime = vote["time"]
    same = ("completion_id", "label", "comment", "arm", "score", "probability")
    return {
        "object": "feedback",
        "id": vote["vote_id"],
        "time": time.isoformat(),
        "model": vote["arm"],
        "version": vote["model_version"],
    } | {name: vote[name] for name in same}


def texts(vote: Row) -> dict[str, str]:
    return {"prompt": vote["prompt"], "text": vote["completion"]}
