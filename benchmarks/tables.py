"""What the benchmarks share: a run of the main job, and its figures as the cells of a Markdown table."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from rlhf_ray.config import load
from rlhf_ray.runs import RunConfig

RESULTS = Path(__file__).parent / "results"
Summary = dict[str, Any]
PACKAGES = ("torch", "transformers", "ray")


def folder_of(config: str, words: list[str]) -> Path:
    return load(RunConfig, config, words).run_folder


def run(config: str, words: list[str]) -> Summary:
    """Run the main job in a process of its own and give its summary. One that fails ends it all with its error."""
    subprocess.run([sys.executable, "-m", "jobs.pipeline", config, *words], check=True)  # noqa: S603
    return json.loads((folder_of(config, words) / "summary.json").read_text(encoding="utf-8"))


def here() -> Summary:
    """What `write` needs of a summary, for a benchmark that runs no job: the versions in this process."""
    return {"versions": {name: version(name) for name in PACKAGES}}


def head(columns: tuple[str, ...]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---:|" * len(columns)]


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def interval(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def share(figure: dict[str, float]) -> str:
    return f"{100 * figure['mean']:.1f} % [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def write(name: str, words: list[str], summary: Summary, lines: list[str]) -> None:
    """Print the table and write it to `results/<name>.md`, with the command, date, machine and versions above it."""
    versions = yaml.safe_dump(summary["versions"], default_flow_style=True, width=1000).strip()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    made = [
        f"`python benchmarks/{name}.py {' '.join(words)}`, {datetime.now(UTC).date()}, "
        f"{platform.machine()}, {os.cpu_count()} CPU cores, {gpu}; {versions}",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text("\n".join([*made, *lines]) + "\n", encoding="utf-8")
    print("\n".join([*made, *lines]))
