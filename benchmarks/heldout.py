"""Any policy on a finished run's held-out prompts, asked and judged as the run's own report does it."""

from dataclasses import dataclass

import torch

from rlhf_ray.data.tables import Row, read_table
from rlhf_ray.evaluation.answers import sample, scored
from rlhf_ray.evaluation.compare import judged
from rlhf_ray.incidents.world import PROMPT_COLUMNS
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.weights import pack
from rlhf_ray.workers.sampler import Sampler
from rlhf_ray.workers.scorer import Scorer

SEED = 0  # that of the report


@dataclass(frozen=True)
class Exam:
    """The prompts, models and settings of a run."""

    config: RunConfig

    def answers(self, policy: str, copies: int = 1) -> list[Row]:
        """The policy's judged answers, `copies` of them to each prompt, one behind the other."""
        config, run = self.config, self.config.run_folder
        torch.set_num_threads(config.threads)
        sft, tokenizer = str(run / "sft"), load_tokenizer(str(run / "sft"))
        prompts = read_table(run / "world" / "heldout.parquet", PROMPT_COLUMNS)
        sampler = Sampler(sft, config.sampling, config.seed)
        scorer = Scorer(str(run / "reward"), sft, config.scoring, config.sampling.temperature)
        asked = [row for row in prompts for _ in range(copies)]
        weights = pack(load_causal(policy).parameters(), version=1)
        rows, rollout = sample(sampler, tokenizer, asked, weights, config.sampling.prompt_tokens, SEED)
        return judged(scored(rows, scorer.score(rollout)))


def column(rows: list[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows]
