"""Hold the tuned model against the SFT model on prompts that training never saw, and write the report."""

import json
from pathlib import Path

from rlhf_ray.data.tables import read_table, write_table
from rlhf_ray.distributed.team import assemble
from rlhf_ray.evaluation.answers import sample, scored
from rlhf_ray.evaluation.compare import Questions, conclude, judged
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.stages import Run, Stage
from rlhf_ray.summary import conclude as write_summary
from rlhf_ray.summary import write_report
from rlhf_ray.weights import pack
from rlhf_ray.workers.rewards import fingerprints

from jobs.door import perform

SEED = 0  # of the sampler: no training iteration has this number


def evaluate(run: Run, folder: Path) -> None:
    config, sft = run.config, str(run.path("sft").resolve())
    questions, tokenizer = questions_of(run), load_tokenizer(sft)
    sides = {}
    with assemble(config, learns=False) as team:
        sampler, scorer = team.sampler(sft), team.scorer(str(run.path("reward").resolve()), sft)
        for version, (side, model) in enumerate({"before": sft, "after": str(run.path("ppo", "policy"))}.items()):
            weights, width = pack(load_causal(model).parameters(), version), config.sampling.prompt_tokens
            rows, rollout = sample(sampler, tokenizer, questions.all, weights, width, SEED)
            sides[side] = judged(scored(rows, scorer.score(rollout)))
    rewards = config.scoring.rewards
    results = conclude(questions, sides["before"], sides["after"], config.tripwires.kl_limit, rewards)
    (folder / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    write_table(folder / "answers.parquet", [row | {"side": side} for side, rows in sides.items() for row in rows])
    write_report(run, folder, results, sides)


def questions_of(run: Run) -> Questions:
    columns = run.config.prompt_columns
    heldout = read_table(run.path("world", "heldout.parquet"), columns)
    if run.config.data != "demo":
        return Questions(heldout, wordings=[], demo_samples=0)
    wordings = read_table(run.path("world", "heldout_wordings.parquet"), columns)
    return Questions(heldout, wordings, run.config.evaluation.demo_samples)


STAGE = Stage(
    "report",
    reads=("world", "sft", "reward", "ppo"),
    settings=("evaluation", "sampling", "scoring", "tripwires"),
    work=evaluate,
    outside=lambda config: fingerprints(config.scoring.rewards),
)

if __name__ == "__main__":
    perform([STAGE], after=write_summary)
