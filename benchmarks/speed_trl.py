"""TRL's last PPO at work on one size: `python benchmarks/speed_trl.py FOLDER OUT ITERATIONS PRECISION THREADS`.

`ppo.py` calls this in the peer's environment. PRECISION `bf16` is what forcing by hand comes to: generation and every
forward pass under autocast, each under one of its own, since autocast keeps the casts of weights that have changed.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stopwatch import Stopwatch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
    set_seed,
)
from trl.experimental.ppo import PPOTrainer, ppo_trainer
from trl_trainer import build
from workload import SEED, Size, lengths, read_size


def trainer(folder: Path, out: Path, size: Size, iterations: int) -> PPOTrainer:
    """All that is not named here is as TRL has it, `bf16=True` among it, which does nothing on a CPU."""
    policy, reward = str(folder / "policy"), str(folder / "reward")
    settings = {
        "output_dir": str(out),
        "per_device_train_batch_size": size.episodes,
        "num_mini_batches": size.minibatches,
        "total_episodes": iterations * size.episodes,
        "local_rollout_forward_batch_size": size.episodes,
        "response_length": size.response,
        "temperature": 1.0,
        "num_ppo_epochs": size.epochs,
        "seed": SEED,
    }
    return build(
        AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        AutoModelForSequenceClassification.from_pretrained(reward, dtype=torch.float32),
        AutoModelForSequenceClassification.from_pretrained(reward, dtype=torch.float32),
        AutoTokenizer.from_pretrained(policy),
        json.loads((folder / "prompts.json").read_text(encoding="utf-8")),
        settings,
        rates=(size.lr, size.lr),
        steps=iterations,
    )


class Watch(TrainerCallback):
    """Stands where TRL's phases end: behind generation, before the first shuffle of an update, and at the log."""

    def __init__(self) -> None:
        self.stopwatch = Stopwatch()
        self.said: list[list[int]] = []
        self.is_updating = False
        generate, shuffle = ppo_trainer.batch_generation, np.random.permutation

        def watched_generation(model: Any, queries: Any, *more: Any) -> Any:
            self.stopwatch.begin()
            spoken = generate(model, queries, *more)
            self.stopwatch.lap("generate")
            self.said.append(lengths(spoken[0][:, queries.shape[1] :]))
            return spoken

        def watched_shuffle(count: int) -> Any:
            if not self.is_updating:
                self.stopwatch.lap("score")
            self.is_updating = True
            return shuffle(count)

        ppo_trainer.batch_generation, np.random.permutation = watched_generation, watched_shuffle

    def on_log(self, *given: Any, **more: Any) -> None:
        if self.is_updating:
            self.stopwatch.lap("update")
            self.stopwatch.end()
        self.is_updating = False


def in_bf16(function: Callable[..., Any]) -> Callable[..., Any]:
    def cast(*given: Any, **more: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return function(*given, **more)

    return cast


def main(folder: Path, out: Path, iterations: int, precision: str, threads: int) -> None:
    torch.set_num_threads(threads)
    set_seed(SEED)
    if precision == "bf16":
        for name in ("batch_generation", "forward", "get_reward"):
            setattr(ppo_trainer, name, in_bf16(getattr(ppo_trainer, name)))
    watch = Watch()
    taught = trainer(folder, out, read_size(folder), iterations)
    taught.add_callback(watch)
    taught.train()
    watch.stopwatch.write(out / "measured.json", watch.said, "one process")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
