"""Our PPO at work on one size: `python benchmarks/speed_ours.py FOLDER OUT ITERATIONS [key=value …]`.

`ppo.py` calls this in our environment. It is the loop, the team and the workers of the main job; what differs is that
the learner, and without a cluster also sampler and scorer, are watched from outside.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stopwatch import Stopwatch
from workload import SEED, Size, lengths, read_size

from rlhf_ray.config import load
from rlhf_ray.data.prompts import PromptStream
from rlhf_ray.distributed.team import assemble
from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.models.loading import load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.checkpoint import Checkpoints
from rlhf_ray.training.ppo import train

NEVER = 10**9
AFTER = {"estimate": "score", "update": "update", "weights": "update"}  # the phases that end with these calls


def settings(size: Size, iterations: int) -> dict[str, Any]:
    """The size as sections of a run's config."""
    return {
        "seed": SEED,
        "ppo": {"steps": iterations, "episodes": size.episodes},
        "learning": {
            "epochs": size.epochs,
            "minibatch": size.episodes // size.minibatches,
            "policy_lr": size.lr,
            "critic_lr": size.lr,
        },
        "sampling": {"prompt_tokens": size.prompt[1], "response_tokens": size.response, "rows": size.episodes},
        "scoring": {"rows": size.episodes},
    }


class Watched:
    """A worker at whose calls the stopwatch is told which phase has ended; anything else is the worker's own."""

    def __init__(self, worker: Any, stopwatch: Stopwatch, before: dict[str, str], after: dict[str, str]) -> None:
        self._worker, self._stopwatch, self._before, self._after = worker, stopwatch, before, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._worker, name)
        return self._timed(found, name) if name in self._before or name in self._after else found

    def _timed(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def timed(*given: Any, **more: Any) -> Any:
            if name in self._before:
                self._stopwatch.lap(self._before[name])
            result = method(*given, **more)
            if name in self._after:
                self._stopwatch.lap(self._after[name])
            return result

        return timed


def main(folder: Path, out: Path, iterations: int, *words: str) -> None:
    (out / "config.yaml").write_text(json.dumps(settings(read_size(folder), iterations)), encoding="utf-8")
    config = load(RunConfig, out / "config.yaml", list(words))
    policy, reward = (str((folder / part).resolve()) for part in ("policy", "reward"))
    asked = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    texts = [" ".join(f"w{token}" for token in prompt) for prompt in asked]
    shape = {"size": config.ppo.episodes, "width": config.sampling.prompt_tokens, "seed": SEED}
    prompts, stopwatch = PromptStream(texts, load_tokenizer(policy), **shape), Stopwatch()
    said: list[list[int]] = []

    def report(step: int, scored: ScoredRollout, metrics: Metrics) -> bool:
        stopwatch.lap("update")
        stopwatch.end()
        said.append(lengths(scored.rollout.tokens))
        return True

    with assemble(config) as team:
        learner = team.learner(policy, reward)
        sampler, scorer = team.sampler(policy), team.judge(reward, policy, learner)
        if config.cluster == "none":
            sampler = Watched(sampler, stopwatch, before={}, after={"generate": "generate"})
        # Actors may speak and judge in one go: what is over when the learner is asked is then all called generation.
        learner = Watched(learner, stopwatch, {"estimate": "score" if config.cluster == "none" else "generate"}, AFTER)
        checkpoints = Checkpoints(out / "checkpoints", every=NEVER)
        learner.version()  # the actors are up
        stopwatch.begin()
        train(sampler, scorer, learner, prompts, config.ppo, config.returns, report, checkpoints)
    stopwatch.write(out / "measured.json", said, "one process" if config.cluster == "none" else "Ray")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
