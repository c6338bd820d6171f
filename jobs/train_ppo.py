"""Improve the SFT model with PPO against the reward model."""

from pathlib import Path

from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.data.tables import read_table
from rlhf_ray.distributed.team import assemble
from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.models.loading import check_same_vocabulary, load_tokenizer
from rlhf_ray.stages import Run, Stage
from rlhf_ray.training.ppo import train
from rlhf_ray.training.progress import Reporter
from rlhf_ray.training.tracking import Tracker

from jobs.door import perform


def train_ppo(run: Run, folder: Path) -> None:
    config, sft, reward = run.config, str(run.path("sft").resolve()), str(run.path("reward").resolve())
    tokenizer = load_tokenizer(sft)
    check_same_vocabulary(sft, reward)
    rows = read_table(run.path("world", "prompts.parquet"), ("prompt",))
    prompts = PromptStream(
        [row["prompt"] for row in rows],
        tokenizer,
        size=config.ppo.episodes,
        width=config.sampling.prompt_tokens,
        seed=config.seed,
        samples=config.ppo.samples_per_prompt,
    )
    progress = Reporter("ppo")
    with assemble(config) as team, Tracker(folder, tokenizer) as tracker:
        sampler, scorer = team.sampler(sft), team.scorer(reward, sft)
        learner = team.learner(sft, reward if config.returns.needs_critic else None)

        def report(step: int, scored: ScoredRollout, metrics: Metrics) -> None:
            tracker.record(step, scored, metrics)
            progress(step, config.ppo.steps, {name: metrics[name] for name in ("objective/scores", "objective/kl")})

        train(sampler, scorer, learner, prompts, config.ppo, config.returns, report)
        learner.save(str((folder / "policy").resolve()))
    tokenizer.save_pretrained(folder / "policy")


SETTINGS = ("ppo", "learning", "returns", "scoring", "sampling")
STAGE = Stage("ppo", reads=("world", "sft", "reward"), settings=SETTINGS, work=train_ppo)

if __name__ == "__main__":
    perform([STAGE])
