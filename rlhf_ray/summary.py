"""summary.json and the model cards: what a finished run amounts to, in keys that stay."""

import json
from importlib.metadata import version
from typing import Any

from rlhf_ray.evaluation.cards import write_card
from rlhf_ray.stages import Run, write_whole

STAGES = ("world", "sft", "thumbs", "reward", "ppo", "report")
PACKAGES = ("rlhf-ray", "torch", "transformers", "trl", "ray", "datasets", "pyarrow")


def conclude(run: Run) -> None:
    """Write `summary.json` and the cards of the SFT, reward and tuned models with the run's numbers."""
    summary = summarise(run)
    write_whole(run.folder / "summary.json", json.dumps(summary, indent=2))
    for stage, template in (("sft", "sft_card.md"), ("reward", "reward_card.md"), ("ppo/policy", "policy_card.md")):
        write_card(run.path(stage), template, summary=summary, config=run.config)


def summarise(run: Run) -> dict[str, Any]:
    """The keys are described in docs/run-folder.md."""
    manifests = {stage: run.manifest(stage) for stage in STAGES}
    stages = {name: {"seconds": m["seconds"], "peak_bytes": m["peak_bytes"]} for name, m in manifests.items()}
    results = json.loads(run.path("report", "results.json").read_text(encoding="utf-8"))
    return {
        "seed": run.config.seed,
        "base": run.config.base,
        "versions": {name: version(name) for name in PACKAGES},
        "stages": stages,
        "seconds": round(sum(stage["seconds"] for stage in stages.values()), 2),
        "peak_bytes": max(stage["peak_bytes"] for stage in stages.values()),
        "reward_model": json.loads(run.path("reward", "metrics.json").read_text(encoding="utf-8")),
    } | results
