"""The main job on several seeds as a table: `python benchmarks/seeds.py configs/rca/tiny.yaml 0 1 2 [key=value …]`.

Each seed is a process of its own, one after the other. No seed is left out: one that fails ends it all with its error.
The table is printed and written to `benchmarks/results/seeds.md`.
"""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from rlhf_ray.config import load
from rlhf_ray.runs import RunConfig

RESULT = Path(__file__).parent / "results" / "seeds.md"
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


def run(config: str, seed: str, overrides: list[str]) -> dict[str, Any]:
    """Run the main job on one seed and give its summary."""
    words = [f"seed={seed}", *overrides]
    subprocess.run([sys.executable, "-m", "jobs.pipeline", config, *words], check=True)  # noqa: S603
    folder = load(RunConfig, config, words).run_folder
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def row(summary: dict[str, Any]) -> str:
    before, after, wins = summary["before"], summary["after"], summary["win_rate"]
    cells = [
        str(summary["seed"]),
        _interval(before["rubric"]),
        _interval(after["rubric"]),
        f"{100 * wins['mean']:.1f} % [{100 * wins['low']:.1f}, {100 * wins['high']:.1f}]",
        f"{after['kl']['mean']:.1f}",
        f"{before['score']['mean']:.2f}",
        f"{after['score']['mean']:.2f}",
        f"{100 * summary['reward_model']['accuracy']['mean']:.1f} %",
        f"{summary['seconds'] / 60:.1f}",
        f"{summary['peak_bytes'] / 2**30:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def demo_rows(summary: dict[str, Any]) -> list[str]:
    rows = []
    for entry in summary["demo"]:
        figures = [entry[side][figure]["mean"] for figure in ("rubric", "score") for side in ("before", "after")]
        rows.append(f"| {summary['seed']} | {entry['prompt']} | {' | '.join(f'{figure:.2f}' for figure in figures)} |")
    return rows


def _head(columns: tuple[str, ...]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---:|" * len(columns)]


def _interval(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def main(config: str, *words: str) -> None:
    seeds = [word for word in words if word.isdigit()]
    summaries = [run(config, seed, [word for word in words if not word.isdigit()]) for seed in seeds]
    versions = yaml.safe_dump(summaries[0]["versions"], default_flow_style=True, width=1000).strip()
    lines = [
        f"`python benchmarks/seeds.py {' '.join((config, *words))}`, {datetime.now(UTC).date()}, "
        f"{platform.machine()}, {os.cpu_count()} CPU cores, no GPU; {versions}",
        "",
        *_head(COLUMNS),
        *map(row, summaries),
        "",
        *_head(DEMO_COLUMNS),
        *[line for summary in summaries for line in demo_rows(summary)],
    ]
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
