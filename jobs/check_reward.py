"""Where the reward model can be fooled: its score against the judge's rubric along PPO, and over best of n answers."""

import json
from pathlib import Path

import numpy as np

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import read_table, write_table
from rlhf_ray.distributed.team import assemble
from rlhf_ray.evaluation.answers import sample, scored
from rlhf_ray.evaluation.compare import judged
from rlhf_ray.evaluation.overoptimisation import SIZES, along_ppo, best_of_n, draw, fall
from rlhf_ray.incidents.world import PROMPT_COLUMNS
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.stages import Run, Stage
from rlhf_ray.weights import pack
from rlhf_ray.workers.rewards import fingerprints

from jobs.door import perform

SEED = 1  # of the sampler: neither PPO's steps nor the report's answers


def check(run: Run, folder: Path) -> None:
    config, sft = run.config, str(run.path("sft").resolve())
    if config.data != "demo":
        raise BadInput("data: expected demo, whose rubric can judge the answers, got data of one's own")
    prompts = read_table(run.path("world", "heldout.parquet"), PROMPT_COLUMNS)[: config.evaluation.best_of_prompts]
    asked = [row for row in prompts for _ in range(max(SIZES))]
    with assemble(config, learns=False) as team:
        sampler, scorer = team.sampler(sft), team.scorer(str(run.path("reward").resolve()), sft)
        weights, width = pack(load_causal(sft).parameters(), 0), config.sampling.prompt_tokens
        rows, rollout = sample(sampler, load_tokenizer(sft), asked, weights, width, SEED)
        answers = judged(scored(rows, scorer.score(rollout)))
    score, rubric = (np.reshape([row[name] for row in answers], (len(prompts), -1)) for name in ("score", "rubric"))
    lines = run.path("ppo", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    curves = {"best of n": best_of_n(score, rubric), "PPO": along_ppo([json.loads(line) for line in lines])}
    facts = {"curves": curves, "falls": {name: fall(curve) for name, curve in curves.items()}}
    (folder / "overoptimisation.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    draw(curves, folder / "overoptimisation.svg")
    write_table(folder / "answers.parquet", answers)


STAGE = Stage(
    "overoptimisation",
    reads=("world", "sft", "reward", "ppo"),
    settings=("evaluation", "sampling", "scoring"),
    work=check,
    outside=lambda config: fingerprints(config.scoring.rewards),
)

if __name__ == "__main__":
    perform([STAGE])
