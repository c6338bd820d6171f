"""PPO against what is simpler: `python benchmarks/alternatives.py CONFIG [key=value …]`.

Best of 16: the SFT model answers 16 times, and the reward model picks one. KTO: TRL's trainer learns from the same
thumbs and needs no reward model. All answer the same held-out prompts. The table is printed and written to
`benchmarks/results/alternatives.md`.
"""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from heldout import Exam, column
from tables import head, interval, line, run, write
from trl import KTOConfig, KTOTrainer

from rlhf_ray.config import load
from rlhf_ray.data.tables import Row, read_table
from rlhf_ray.evaluation import statistics
from rlhf_ray.feedback.thumbs import COLUMNS as THUMB
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.runs import RunConfig

COPIES = 16
KTO_RATES = (5e-5, 2e-4, 6e-4)
COLUMNS = ("what", "rubric", "reward", "KL", "training seconds", "answers drawn for one")


def best_of(rows: list[Row]) -> list[Row]:
    """Of each prompt's answers the one that the reward model likes best."""
    starts = range(0, len(rows), COPIES)
    return [max(rows[start : start + COPIES], key=lambda row: row["score"]) for start in starts]


def kto(config: RunConfig, lr: float) -> str:
    """The SFT model after TRL's KTO on the run's thumbs; its folder."""
    run_folder, out = config.run_folder, Path("runs/alternatives", f"kto-{lr:g}")
    torch.set_num_threads(config.threads)
    thumbs = read_table(run_folder / "thumbs" / "thumbs.parquet", THUMB)
    arguments = KTOConfig(
        output_dir=str(out),
        num_train_epochs=2,
        per_device_train_batch_size=32,
        learning_rate=lr,
        max_length=config.reward_training.most_tokens,
        beta=0.1,
        seed=config.seed,
        save_strategy="no",
        logging_steps=20,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
    )
    sft = str(run_folder / "sft")
    trainer = KTOTrainer(
        load_causal(sft),
        load_causal(sft),
        args=arguments,
        train_dataset=Dataset.from_list(thumbs),
        processing_class=load_tokenizer(sft),
    )
    trainer.train()
    trainer.model.save_pretrained(out)
    trainer.processing_class.save_pretrained(out)
    return str(out)


def timed(work: Callable[[], str]) -> tuple[str, float]:
    begin = time.monotonic()
    return work(), time.monotonic() - begin


def row(name: str, answers: list[Row], kl: str | None, seconds: float, drawn: int) -> str:
    rubric, score, moved = (interval(statistics.mean(column(answers, part))) for part in ("rubric", "score", "kl"))
    return line([name, rubric, score, kl or moved, f"{seconds:.0f}", str(drawn)])


def main(path: str, *words: str) -> None:
    summary, config = run(path, list(words)), load(RunConfig, path, list(words))
    exam, folder, spent = Exam(config), config.run_folder, summary["stages"]
    sft, reward_seconds = str(folder / "sft"), spent["reward"]["seconds"]
    bound = f"at most {math.log(COPIES) - (COPIES - 1) / COPIES:.2f}"  # log n - (n - 1) / n, arXiv:2401.01879
    rows = [
        row("SFT model", exam.answers(sft), None, 0, 1),
        row(f"best of {COPIES}", best_of(exam.answers(sft, COPIES)), bound, reward_seconds, COPIES),
    ]
    for lr in KTO_RATES:
        policy, seconds = timed(lambda lr=lr: kto(config, lr))
        rows.append(row(f"KTO, learning rate {lr:g}", exam.answers(policy), None, seconds, 1))
    ppo_seconds = reward_seconds + spent["ppo"]["seconds"]
    rows.append(row("PPO", exam.answers(str(folder / "ppo" / "policy")), None, ppo_seconds, 1))
    write("alternatives", [path, *words], summary, [*head(COLUMNS), *rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
