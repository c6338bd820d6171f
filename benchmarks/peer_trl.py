"""Ours against TRL's last PPO: `python benchmarks/peer_trl.py CONFIG SEED … [key=value …]`.

TRL has dropped its PPO after 1.12. That version is put into a folder of its own, `runs/peer-trl/site`, and is on the
path of the peer's processes only. Of the first seed's models one batch is compared number by number; then TRL learns on
every seed's SFT model, reward model and prompts with the run's settings, and both policies answer the held-out prompts.
Writes `benchmarks/results/peer_trl.md` and the learning curves, `peer_trl.svg`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from heldout import Exam, column
from tables import RESULTS, head, interval, line, run, write

from rlhf_ray.config import load
from rlhf_ray.durable import digest, digests
from rlhf_ray.evaluation import statistics
from rlhf_ray.runs import RunConfig

PLACE = Path("runs/peer-trl")
TRL = "trl==1.12.0"
COLUMNS = (
    "seed",
    "rubric, ours",
    "rubric, TRL",
    "reward, ours",
    "reward, TRL",
    "KL, ours",
    "KL, TRL",
)
Curve = list[dict[str, Any]]


def install() -> Path:
    site = PLACE / "site"
    if not (site / "trl").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), TRL]
        subprocess.run(command, check=True)  # noqa: S603
    return site


def ask_trl(site: Path, folder: Path, out: Path, steps: int, config: RunConfig) -> None:
    command = [sys.executable, str(Path(__file__).with_name("trl_ppo.py")), folder, out, steps, config.seed]
    more = {"PYTHONPATH": str(site), "OMP_NUM_THREADS": str(config.threads)}
    subprocess.run([str(word) for word in command], check=True, env=os.environ | more)  # noqa: S603


def taught(site: Path, config: RunConfig) -> tuple[Path, Curve]:
    """TRL's policy for a finished run, and what it reported of each step; learned once for the same inputs."""
    inputs = [config.model_dump(), *(digests(config.run_folder / stage) for stage in ("world", "sft", "reward"))]
    out = PLACE / f"seed-{config.seed}-{digest(json.dumps(inputs, sort_keys=True).encode())[:8]}"
    if not (out / "curve.json").is_file():
        ask_trl(site, config.run_folder, out, config.ppo.steps, config)
    return out / "policy", json.loads((out / "curve.json").read_text(encoding="utf-8"))


def draw(curves: dict[str, list[Curve]]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, (name, title) in zip(axes, {"scores": "reward", "kl": "KL to the SFT model"}.items(), strict=True):
        for color, (who, runs) in zip(("tab:blue", "tab:orange"), curves.items(), strict=True):
            for number, curve in enumerate(runs):
                values = [float(step[f"objective/{name}"]) for step in curve]
                axis.plot(
                    range(1, len(values) + 1), values, color=color, alpha=0.6, lw=1, label=None if number else who
                )
        axis.set(xlabel="step", title=title)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(RESULTS / "peer_trl.svg")


def main(path: str, *words: str) -> None:
    seeds, more = [w for w in words if w.isdigit()], [w for w in words if not w.isdigit()]
    site, rows, curves, gains = install(), [], {"rlhf_ray": [], "TRL 1.12": []}, []
    differences: dict[str, float] = {}
    for seed in seeds:
        summary = run(path, [f"seed={seed}", *more])
        config = load(RunConfig, path, [f"seed={seed}", *more])
        folder = config.run_folder
        if not differences:
            ask_trl(site, folder, PLACE / "batch", 0, config)
            differences = json.loads((PLACE / "batch" / "differences.json").read_text(encoding="utf-8"))
        policy, curve = taught(site, config)
        lines = (folder / "ppo" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        curves["rlhf_ray"].append([json.loads(entry) for entry in lines])
        curves["TRL 1.12"].append(curve)
        exam = Exam(config)
        ours, theirs = exam.answers(str(folder / "ppo" / "policy")), exam.answers(str(policy))
        pairs = [(column(ours, name), column(theirs, name)) for name in ("rubric", "score", "kl")]
        gains.append(statistics.mean(pairs[1][0])["mean"] - statistics.mean(pairs[1][1])["mean"])
        cells = [interval(statistics.mean(side)) for pair in pairs for side in pair]
        rows.append(line([seed, *cells]))
    draw(curves)
    batch = [line([name, f"{worst:.1e}"]) for name, worst in differences.items()]
    said = f"Final reward, ours minus TRL's, mean over the seeds: {interval(statistics.mean(gains))}."
    table = [*head(COLUMNS), *rows, "", said, "", "One batch, the largest difference:", ""]
    write("peer_trl", [path, *words], summary, [*table, *head(("what", "difference")), *batch])


if __name__ == "__main__":
    main(*sys.argv[1:])
