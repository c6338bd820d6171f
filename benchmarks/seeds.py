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
REWARD_COLUMNS = (
    "seed",
    "accuracy",
    "AUC",
    "calibration error",
    "correlation with length",
    "negation",
    "lowest other probe",
    "mean of the probes",
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


def reward_row(summary: Summary) -> str:
    model = summary["reward_model"]
    others = [probe["mean"] for name, probe in model["probes"].items() if name != "negation"]
    probes = (model["probes"]["negation"]["mean"], min(others), model["probes_mean"])
    figures = [model["auc"], model["calibration_error"]]
    return line(
        [
            str(summary["seed"]),
            share(model["accuracy"]),
            *(f"{figure:.3f}" for figure in figures),
            f"{model['length_correlation']['all']:.2f}",
            *(f"{100 * probe:.1f} %" for probe in probes),
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
    tables = [
        [*head(COLUMNS), *map(row, summaries)],
        [*head(REWARD_COLUMNS), *map(reward_row, summaries)],
        [*head(DEMO_COLUMNS), *(row for summary in summaries for row in demo_rows(summary))],
    ]
    write("seeds", [config, *words], summaries[0], [text for table in tables for text in (*table, "")])


if __name__ == "__main__":
    main(*sys.argv[1:])
