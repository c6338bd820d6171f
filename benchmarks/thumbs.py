"""How many thumbs, and how many of them wrong: `python benchmarks/thumbs.py CONFIG [key=value …]`.

A run for each count of thumbs and each share of thumbs given the wrong way: the reward model on held-out thumbs without
noise, and the rubric after PPO. Two runs at a time, in one process and on one thread each. The table is printed and
written to `benchmarks/results/thumbs.md`.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from tables import Summary, head, interval, line, run, share, write

COUNTS = (300, 1000, 3000)
NOISE = (0.0, 0.05, 0.1, 0.2, 0.3)
SAMPLES = 0.4  # of the thumbs are on answers of the SFT model, the rest on written statements, as in the default
COLUMNS = ("thumbs", "given wrong", "accuracy", "AUC", "rubric before", "rubric after", "KL")


def words_of(count: int, noise: float) -> list[str]:
    samples = round(SAMPLES * count)
    return [
        f"folder=runs/thumbs/{count}-{noise:g}",
        f"collection={{samples: {samples}, statements: {count - samples}, noise: {noise}}}",
        "cluster=none",
    ]


def row(count: int, noise: float, summary: Summary) -> str:
    reward, after = summary["reward_model"], summary["after"]
    cells = [share(reward["accuracy"]), f"{reward['auc']:.3f}"]
    cells += [interval(summary["before"]["rubric"]), interval(after["rubric"]), f"{after['kl']['mean']:.1f}"]
    return line([str(count), f"{100 * noise:.0f} %", *cells])


def main(config: str, *words: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    cells = list(product(COUNTS, NOISE))
    with ThreadPoolExecutor(2) as two:
        summaries = list(two.map(lambda cell: run(config, [*words, *words_of(*cell)]), cells))
    rows = [row(*cell, summary) for cell, summary in zip(cells, summaries, strict=True)]
    write("thumbs", [config, *words], summaries[0], [*head(COLUMNS), *rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
