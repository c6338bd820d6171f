"""What a finished run amounts to: the report page, summary.json in keys that stay, and the model cards."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rlhf_ray.data.tables import Row
from rlhf_ray.durable import write_whole
from rlhf_ray.evaluation.cards import write_card
from rlhf_ray.evaluation.page import write_page
from rlhf_ray.models.folder import fingerprint
from rlhf_ray.stages import Run

STAGES = ("world", "sft", "thumbs", "reward", "ppo", "report")
SHOWN = 16  # held-out prompts whose answers stand side by side in the report
PACKAGES = ("rlhf-ray", "torch", "transformers", "trl", "ray", "datasets", "pyarrow")


def conclude(run: Run) -> None:
    """Write `summary.json` and the cards of the SFT, reward and tuned models with the run's numbers."""
    summary = summarise(run)
    write_whole(run.folder / "summary.json", json.dumps(summary, indent=2))
    data, lineage = _read_json(run.path("thumbs", "data_report.json")), _lineage(run)
    for stage, template in (("sft", "sft_card.md"), ("reward", "reward_card.md"), ("ppo/policy", "policy_card.md")):
        write_card(run.path(stage), template, summary=summary, config=run.config, data=data, lineage=lineage)


def write_report(run: Run, folder: Path, results: dict[str, Any], sides: dict[str, list[Row]]) -> None:
    """The page `index.html` with curves, tables and samples."""
    lines = run.path("ppo", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [
        {"prompt": before["prompt"], "before": before, "after": after}
        for before, after in zip(sides["before"][:SHOWN], sides["after"][:SHOWN], strict=True)
    ]
    write_page(
        folder,
        results=results,
        reward_model=_read_json(run.path("reward", "metrics.json")),
        metrics=[json.loads(line) for line in lines],
        samples=samples,
        run={
            "folder": str(run.folder),
            "seed": run.config.seed,
            "base": run.config.base,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
            "versions": _versions(),
            "stages": [{"name": name} | figures for name, figures in _stages(run, STAGES[:-1]).items()],
        },
    )


def summarise(run: Run) -> dict[str, Any]:
    """The keys are described in docs/run-folder.md."""
    stages = _stages(run, STAGES)
    return {
        "seed": run.config.seed,
        "base": run.config.base,
        "versions": _versions(),
        "stages": stages,
        "seconds": round(sum(stage["seconds"] for stage in stages.values()), 2),
        "peak_bytes": max(stage["peak_bytes"] for stage in stages.values()),
        "reward_model": _read_json(run.path("reward", "metrics.json")),
    } | _read_json(run.path("report", "results.json"))


def _lineage(run: Run) -> dict[str, str]:
    """What each thing was when the models were made of it: digests, the base's first (of the hub's its name)."""
    return {"base": fingerprint(run.config.base)} | run.digests(("world", "sft", "thumbs", "reward", "ppo"))


def _stages(run: Run, names: Sequence[str]) -> dict[str, dict[str, float]]:
    manifests = {name: run.manifest(name) for name in names}
    return {name: {"seconds": m["seconds"], "peak_bytes": m["peak_bytes"]} for name, m in manifests.items()}


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
