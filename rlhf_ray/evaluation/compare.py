"""Before against after on the same prompts, judged by the rubric beside the reward.

The rubric is the demo's. Nobody knows the truth about prompts of one's own, so their answers are not judged: what then
remains is the reward, KL and whether text is still text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from rlhf_ray.config import Config
from rlhf_ray.data.tables import Row
from rlhf_ray.evaluation import statistics, texts
from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.incidents.rubric import CRITERIA, judge, rubric
from rlhf_ray.incidents.world import incident_of, proof_of_concept_prompts, quality
from rlhf_ray.text import decode_prompts, decode_responses, encode_prompts
from rlhf_ray.workers.rewards import Reward, load_function

FIGURES = ("rubric", "score", "kl", "tokens", "ended")
COMPARED = ("rubric", "score")


class Evaluation(Config):
    """How before is held against after."""

    demo_samples: int = Field(
        32, ge=1, description="Answers to each of the three demo prompts, whose figures are means."
    )
    best_of_prompts: int = Field(
        100, ge=2, description="Held-out prompts of which jobs.check_reward picks the best of up to 64 answers."
    )


def judged(rows: list[Row]) -> list[Row]:
    """The rows with `rubric` and every criterion (1.0 or 0.0), where the truth about their prompts is known."""
    if not all(map(can_be_judged, rows)):
        return rows
    verdicts = [judge(incident_of(row), row["completion"], finished=row["ended"]) for row in rows]
    return [
        row | {"rubric": verdict.score} | {name: float(getattr(verdict, name)) for name in CRITERIA}
        for row, verdict in zip(rows, verdicts, strict=True)
    ]


def can_be_judged(row: Row) -> bool:
    return "cause" in row


def describe(rows: list[Row]) -> dict[str, Any]:
    """Each figure of one model's answers with its interval, and whether the text stayed text."""
    completions = [row["completion"] for row in rows]
    return {
        **{figure: statistics.mean(_column(rows, figure)) for figure in _found(FIGURES, rows)},
        "criteria": {name: statistics.mean(_column(rows, name)) for name in _found(CRITERIA, rows)},
        "distinct_2": texts.distinct_2(completions),
        "repetition": texts.repetition(completions),
        "most_repeated_share": texts.most_repeated_share(
            completions, [str(row.get("cause", row["prompt"])) for row in rows]
        ),
    }


def compare(before: list[Row], after: list[Row]) -> dict[str, Any]:
    """Both described, their paired differences, and how often after wins on the rubric (None: it was not asked)."""
    pairs = {figure: (_column(before, figure), _column(after, figure)) for figure in _found(COMPARED, before)}
    return {
        "before": describe(before),
        "after": describe(after),
        "difference": {figure: statistics.paired_difference(*pair) for figure, pair in pairs.items()},
        "win_rate": statistics.win_rate(*pairs["rubric"]) if "rubric" in pairs else None,
    }


def demo(before: list[Row], after: list[Row], samples: int) -> list[dict[str, Any]]:
    """The demo prompts, each with the means over its samples and the first of its answers."""
    return [
        {"prompt": before[start]["prompt"].strip()}
        | {side: _of_one_prompt(rows[start : start + samples]) for side, rows in (("before", before), ("after", after))}
        for start in range(0, len(before), samples)
    ]


def _of_one_prompt(rows: list[Row]) -> dict[str, Any]:
    figures = {figure: statistics.mean(_column(rows, figure)) for figure in COMPARED}
    return figures | {"completion": rows[0]["completion"]}


def _found(names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    return [name for name in names if name in rows[0]]


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


@dataclass(frozen=True)
class Questions:
    """What both models are asked: held-out prompts, and in the demo those in held-out wordings and its own prompts.

    Outside the demo there are neither wordings nor `demo_samples`.
    """

    heldout: list[Row]
    wordings: list[Row]
    demo_samples: int

    @property
    def all(self) -> list[Row]:
        demo_prompts = [row for row in proof_of_concept_prompts() for _ in range(self.demo_samples)]
        return self.heldout + self.wordings + demo_prompts

    def part(self, rows: list[Row]) -> tuple[list[Row], list[Row], list[Row]]:
        """The answers to each kind of question."""
        first, second = len(self.heldout), len(self.heldout) + len(self.wordings)
        return rows[:first], rows[first:second], rows[second:]


def judge_is_reward(rewards: dict[str, Reward]) -> bool:
    """Whether training saw the judge: then the rubric proves nothing."""
    return any(load_function(reward.source) is rubric for reward in rewards.values() if reward.is_function)


def conclude(
    questions: Questions, before: list[Row], after: list[Row], kl_limit: float, rewards: dict[str, Reward]
) -> dict[str, Any]:
    """All that is said about before and after, from the judged answers to `questions.all`."""
    heldout, wordings, demo_answers = zip(questions.part(before), questions.part(after), strict=True)
    results = compare(*heldout)
    return results | {
        "prompts": len(questions.heldout),
        "judged": all(map(can_be_judged, questions.heldout)),
        "kl_limit": kl_limit,
        "kl_within_limit": results["after"]["kl"]["mean"] < kl_limit,
        "judge_is_reward": judge_is_reward(rewards),
        "heldout_wordings": compare(*wordings) if questions.wordings else None,
        "demo": demo(*demo_answers, questions.demo_samples) if questions.demo_samples else [],
    }


class Judge:
    """The rubric beside the reward while training is going: it is told, and training never hears of it.

    It has no opinion where nobody knows the truth about the prompts.
    """

    def __init__(self, prompts: list[Row], tokenizer: PreTrainedTokenizerBase, width: int) -> None:
        self.tokenizer = tokenizer
        asked = encode_prompts(tokenizer, [row["prompt"] for row in prompts], width)
        # By what the tokenizer makes of a prompt, which need not be the very text.
        self.truth = dict(zip(decode_prompts(tokenizer, asked), prompts, strict=True))
        self.knows = all(map(can_be_judged, prompts))

    def opinion(self, scored: ScoredRollout) -> Metrics:
        """The mean of the rubric over the responses, and the standard error of that mean."""
        if not self.knows:
            return {}
        rollout = scored.rollout
        said = zip(
            decode_prompts(self.tokenizer, rollout.prompt),
            decode_responses(self.tokenizer, rollout),
            rollout.ended.tolist(),
            strict=True,
        )
        scores = [quality(self.truth[asked] | {"completion": text, "ended": ended}) for asked, text, ended in said]
        return {
            "objective/rubric": float(np.mean(scores)),
            "objective/rubric_error": float(np.std(scores) / len(scores) ** 0.5),
        }
