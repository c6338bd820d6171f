"""Improve the SFT model with PPO against the reward model. A stopped run goes on from its newest checkpoint."""

import sys
from pathlib import Path

from rlhf_ray.alarm import Tripped
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.data.tables import read_table
from rlhf_ray.distributed.recovery import insist
from rlhf_ray.distributed.team import assemble
from rlhf_ray.evaluation.compare import Judge
from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.incidents.world import PROMPT_COLUMNS
from rlhf_ray.models.loading import check_same_vocabulary, load_tokenizer
from rlhf_ray.stages import Run, Stage, scratch_of
from rlhf_ray.training.checkpoint import Checkpoints
from rlhf_ray.training.ppo import train
from rlhf_ray.training.progress import Reporter, warn
from rlhf_ray.training.tracking import Tracker
from rlhf_ray.training.tripwires import watch

from jobs.door import perform


def train_ppo(run: Run, folder: Path) -> None:
    config, sft, reward = run.config, str(run.path("sft").resolve()), str(run.path("reward").resolve())
    check_same_vocabulary(sft, reward)
    tokenizer, rows = load_tokenizer(sft), read_table(run.path("world", "prompts.parquet"), PROMPT_COLUMNS)
    judge, progress = Judge(rows, tokenizer, config.sampling.prompt_tokens), Reporter("ppo")
    scratch = scratch_of(folder)
    checkpoints = Checkpoints(scratch / "checkpoints", config.save_every)
    prompts = PromptStream(
        [row["prompt"] for row in rows],
        tokenizer,
        size=config.ppo.episodes,
        width=config.sampling.prompt_tokens,
        seed=config.seed,
        samples=config.ppo.samples_per_prompt,
    )

    def attempt() -> None:
        with assemble(config) as team:
            sampler, scorer = team.sampler(sft), team.scorer(reward, sft)
            learner = team.learner(sft, reward if config.returns.needs_critic else None)
            begin = checkpoints.restore(learner)
            with Tracker(folder, scratch / "rollouts", tokenizer, after=begin.step if begin else 0) as tracker:

                def report(step: int, scored: ScoredRollout, metrics: Metrics) -> bool:
                    tracker.record(step, scored, metrics | judge.opinion(scored))
                    progress(step, config.ppo.steps, {name: metrics[f"objective/{name}"] for name in ("scores", "kl")})
                    return watch(tracker.history, config.tripwires, warn)

                train(sampler, scorer, learner, prompts, config.ppo, config.returns, report, checkpoints, begin)
                tracker.finish()
            learner.save(str((folder / "policy").resolve()))

    try:
        insist(attempt, progress=checkpoints.newest_step)
    except Tripped:
        if kept := checkpoints.newest():
            print(f"the newest good checkpoint: {kept}", file=sys.stderr)
        raise
    tokenizer.save_pretrained(folder / "policy")


SETTINGS = ("ppo", "learning", "returns", "scoring", "sampling")  # neither what stops a run nor what saves it
STAGE = Stage("ppo", reads=("world", "sft", "reward"), settings=SETTINGS, work=train_ppo, resumes=True)

if __name__ == "__main__":
    perform([STAGE])
