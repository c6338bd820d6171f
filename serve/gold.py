"""Gold: answers of which the owner of a server knows what to think. Who votes cannot change what it says.

A run's reward model learned from votes, and many accounts that vote together can turn it. One that judges the gold
worse than the one that is served is not promoted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_ray.config import BadInput

from serve.artefact import Artefact
from serve.completions import Judge
from serve.errors import granted
from serve.verdicts import Pair, Verdict

MOST_LOST = 0.01  # of the accuracy
AT_ONCE = 64  # answers that are judged with one call
ENOUGH = 10**9  # votes of one person: all of them


@dataclass(frozen=True)
class Gold:
    """Answers with a thumb, up or not, and answers to one prompt of which the first is better."""

    thumbs: Sequence[tuple[Pair, bool]] = ()
    pairs: Sequence[tuple[Pair, Pair]] = ()

    @classmethod
    def read(cls, source: str, model: Artefact, most_tokens: int) -> "Gold":
        """Of any form that data.feedback has.

        Raises BadInput where it holds nothing that the model could judge, in at most so many tokens.
        """
        from rlhf_ray.feedback.intake import read_feedback  # seconds to import: not for the doors, who weigh gold alone
        from rlhf_ray.models.loading import load_tokenizer

        tokenizer = load_tokenizer(model.folder)
        found = read_feedback([source], tokenizer, most_tokens, votes_a_person=ENOUGH, newcomers_share=1)
        if found.rejected:
            raise BadInput(f"gold: row {found.rejected[0]['row']} of {source}: {found.rejected[0]['reason']}")
        return cls(
            [(Pair(row["prompt"], row["completion"]), row["label"]) for row in found.thumbs],
            [(Pair(row["prompt"], row["chosen"]), Pair(row["prompt"], row["rejected"])) for row in found.pairs],
        )

    async def accuracy(self, judge: Judge, model: Artefact) -> float:
        """The share that the model gets right: its chance of a 👍 is above a half, the better answer's score higher."""
        asked = [pair for pair, _ in self.thumbs] + [pair for both in self.pairs for pair in both]
        said: list[Verdict] = []
        for begin in range(0, len(asked), AT_ONCE):
            answers = granted(await judge.judge(model, asked[begin : begin + AT_ONCE]))
            said += [granted(answer) for answer in answers]
        thumbs, pairs = said[: len(self.thumbs)], said[len(self.thumbs) :]
        right = [(each.probability > 0.5) == up for each, (_, up) in zip(thumbs, self.thumbs, strict=True)]
        right += [one.score > other.score for one, other in zip(pairs[::2], pairs[1::2], strict=True)]
        return sum(right) / len(right)

    async def complaint(self, judge: Judge, new: Artefact, served: Artefact) -> str:
        """Why the new model may not follow the one that is served; empty where it may, or where there is no gold."""
        if not self.thumbs and not self.pairs:
            return ""
        before, after = await self.accuracy(judge, served), await self.accuracy(judge, new)
        if after >= before - MOST_LOST:
            return ""
        return f"expected it to judge at least {before - MOST_LOST:.1%} of the gold rightly, got {after:.1%}"
