"""Hold the tuned model against the SFT model on prompts that training never saw, and write the report."""

import json
from pathlib import Path

from rlhf_ray.data.tables import Row, read_table, write_table
from rlhf_ray.distributed.team import assemble
from rlhf_ray.evaluation import answers, compare
from rlhf_ray.evaluation.page import write_page
from rlhf_ray.incidents import world
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.stages import Run, Stage
from rlhf_ray.weights import pack

from jobs.door import perform

SEED = 0  # of the sampler: no training iteration has this number


def evaluate(run: Run, folder: Path) -> None:
    config, sft = run.config, str(run.path("sft").resolve())
    heldout = read_table(run.path("world", "heldout.parquet"), world.PROMPT_COLUMNS)
    wordings = read_table(run.path("world", "heldout_wordings.parquet"), world.PROMPT_COLUMNS)
    demo = answers.repeat(world.proof_of_concept_prompts(), config.evaluation.demo_samples)
    prompts, tokenizer = heldout + wordings + demo, load_tokenizer(sft)
    sides: dict[str, list[Row]] = {}
    with assemble(config) as team:
        sampler, scorer = team.sampler(sft), team.scorer(str(run.path("reward").resolve()), sft)
        for version, (side, model) in enumerate({"before": sft, "after": str(run.path("ppo", "policy"))}.items()):
            weights = pack(load_causal(model), version)
            rows, rollout = answers.sample(sampler, tokenizer, prompts, weights, config.sampling.prompt_tokens, SEED)
            sides[side] = compare.judged(answers.scored(rows, scorer.score(rollout)))
    results = compare.evaluate(sides, len(heldout), len(wordings), config.evaluation.demo_samples, config.ppo.kl_limit)
    (folder / "results.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    write_table(folder / "answers.parquet", [row | {"side": side} for side, rows in sides.items() for row in rows])
    write_page(run, folder, results)


STAGE = Stage(
    "report", reads=("world", "sft", "reward", "ppo"), settings=("evaluation", "sampling", "scoring"), work=evaluate
)

if __name__ == "__main__":
    perform([STAGE])
