"""Improve the SFT model with PPO against the reward model. A stopped run goes on from its newest checkpoint."""

from functools import partial
from pathlib import Path

from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.data.tables import read_table
from rlhf_ray.distributed.recovery import insist
from rlhf_ray.distributed.team import assemble
from rlhf_ray.evaluation.compare import Judge
from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.models.loading import check_same_vocabulary, load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage, scratch_of
from rlhf_ray.training.checkpoint import Checkpoints
from rlhf_ray.training.ppo import train
from rlhf_ray.training.progress import Reporter, warn
from rlhf_ray.training.replay import recorded, recording_of
from rlhf_ray.training.tracking import Tracker
from rlhf_ray.training.tripwires import watch
from rlhf_ray.workers.rewards import fingerprints

from jobs.door import perform


def train_ppo(run: Run, folder: Path) -> None:
    config, sft, reward = run.config, str(run.path("sft").resolve()), str(run.path("reward").resolve())
    check_same_vocabulary(sft, reward)
    tokenizer, rows = load_tokenizer(sft), read_table(run.path("world", "prompts.parquet"), config.prompt_columns)
    judge, progress = Judge(rows, tokenizer, config.sampling.prompt_tokens), Reporter("ppo")
    scratch, names = scratch_of(folder), list(config.scoring.rewards)
    checkpoints = Checkpoints(scratch / "checkpoints", config.save_every, partial(run.store_unfinished, folder))
    texts, ppo, width = [row["prompt"] for row in rows], config.ppo, config.sampling.prompt_tokens
    shape = {"size": ppo.episodes, "width": width, "samples": ppo.samples_per_prompt}
    prompts = PromptStream(texts, tokenizer, seed=config.seed, **shape)
    recording = recording_of(config.replay, tokenizer, prompts, ppo, config.sampling)

    def attempt() -> None:
        with assemble(config) as team:
            learner = team.learner(sft, reward if config.returns.needs_critic else None)
            sampler, scorer = recording or team.sampler(sft), team.judge(reward, sft, learner)
            begin = checkpoints.restore(learner)
            after = begin.step if begin else 0
            with Tracker(folder, scratch / "rollouts", tokenizer, names, after, team.boards(scratch)) as tracker:

                def report(step: int, scored: ScoredRollout, metrics: Metrics) -> bool:
                    tracker.record(step, scored, metrics | judge.opinion(scored))
                    progress(step, ppo.steps, {name: metrics[f"objective/{name}"] for name in ("scores", "kl")})
                    return watch(tracker.history, config.tripwires, warn)

                learn = partial(train, on_policy=recording is None, tolerance=config.tolerance)
                learn(sampler, scorer, learner, prompts, ppo, config.returns, report, checkpoints, begin)
                tracker.finish()
            learner.save(str((folder / "policy").resolve()))

    with checkpoints.named_when_tripped():
        insist(attempt, progress=checkpoints.newest_step)
    tokenizer.save_pretrained(folder / "policy")


def outside(config: RunConfig) -> dict[str, str]:
    return fingerprints(config.scoring.rewards) | recorded(config.replay)


# Neither what stops a run nor what saves it.
SETTINGS = ("ppo", "learning", "returns", "scoring", "sampling", "lora", "replay")
STAGE = Stage("ppo", ("world", "sft", "reward"), SETTINGS, train_ppo, resumes=True, outside=outside)

if __name__ == "__main__":
    perform([STAGE])
