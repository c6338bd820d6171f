"""The estimators of the advantage on equal episodes: `python benchmarks/estimators.py CONFIG [key=value …]`.

All improve the same SFT model against the same reward model, with the same settings; what differs is how the advantage
is estimated. The table is printed and written to `benchmarks/results/estimators.md`.
"""

import shutil
import sys

from tables import Summary, folder_of, head, interval, line, run, share, write

SAMPLES = 4  # responses to each prompt, where they compete
VARIANTS = {
    "gae (critic)": ["returns.advantage=gae"],
    "group (GRPO)": ["returns.advantage=group", f"ppo.samples_per_prompt={SAMPLES}"],
    "group without std": ["returns.advantage=group", "returns.group_std=false", f"ppo.samples_per_prompt={SAMPLES}"],
    "rloo": ["returns.advantage=rloo", f"ppo.samples_per_prompt={SAMPLES}"],
    "reinforce++": ["returns.advantage=reinforce++"],
}
COLUMNS = ("advantage", "rubric before", "rubric after", "win rate", "reward after", "KL", "PPO seconds")
SHARED = ("world", "sft", "thumbs", "reward")


def row(name: str, summary: Summary) -> str:
    after = summary["after"]
    return line(
        [
            name,
            interval(summary["before"]["rubric"]),
            interval(after["rubric"]),
            share(summary["win_rate"]),
            f"{after['score']['mean']:.2f}",
            f"{after['kl']['mean']:.1f}",
            f"{summary['stages']['ppo']['seconds']:.0f}",
        ]
    )


def main(config: str, *words: str) -> None:
    rows, summary, first = [], {}, None
    for number, (name, variant) in enumerate(VARIANTS.items()):
        overrides = [*words, *variant, f"folder=runs/estimators/{number}"]
        folder = folder_of(config, overrides)
        for stage in SHARED if first else ():
            shutil.copytree(first / stage, folder / stage, dirs_exist_ok=True)
        summary = run(config, overrides)
        first = first or folder
        rows.append(row(name, summary))
    write("estimators", [config, *words], summary, [*head(COLUMNS), *rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
