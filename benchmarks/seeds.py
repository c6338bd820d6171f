"""The main job on several seeds as a table: `python benchmarks/seeds.py configs/rca/tiny.yaml 0 1 2 [key=value …]`.

Each seed is a process of its own, one after the other. No seed is left out. The table is printed and written to
`benchmarks/results/seeds.md`.
"""

import sys

from tables import Summary, head, interval, line, run, share, write

COLUMNS = (
    "seed",
    "rubric before",
    "rubric after",
    "win rate",
    "KL",
    "reward before",
    "reward after",
    "reward model",
    "minutes",
    "peak GiB",
)
DEMO_COLUMNS = ("seed", "prompt", "rubric before", "rubric after", "reward before", "reward after")


def row(summary: Summary) -> str:
    before, after = summary["before"], summary["after"]
    return line(
        [
            str(summary["seed"]),
            interval(before["rubric"]),
            interval(after["rubric"]),
            share(summary["win_rate"]),
            f"{after['kl']['mean']:.1f}",
            f"{before['score']['mean']:.2f}",
            f"{after['score']['mean']:.2f}",
            f"{100 * summary['reward_model']['accuracy']['mean']:.1f} %",
            f"{summary['seconds'] / 60:.1f}",
            f"{summary['peak_bytes'] / 2**30:.2f}",
        ]
    )


def demo_rows(summary: Summary) -> list[str]:
    rows = []
    for entry in summary["demo"]:
        figures = [entry[side][figure]["mean"] for figure in ("rubric", "score") for side in ("before", "after")]
        rows.append(line([str(summary["seed"]), entry["prompt"], *(f"{figure:.2f}" for figure in figures)]))
    return rows


def main(config: str, *words: str) -> None:
    seeds = [word for word in words if word.isdigit()]
    overrides = [word for word in words if not word.isdigit()]
    summaries = [run(config, [f"seed={seed}", *overrides]) for seed in seeds]
    demo = [row for summary in summaries for row in demo_rows(summary)]
    write(
        "seeds", [config, *words], summaries[0], [*head(COLUMNS), *map(row, summaries), "", *head(DEMO_COLUMNS), *demo]
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
