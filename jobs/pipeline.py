"""The whole loop: from thumbs to a generator that is measurably better, and the report that shows it."""

import json
from typing import Any

from rlhf_ray.runs import RunConfig
from rlhf_ray.summary import conclude

from jobs import collect_thumbs, evaluate, synthesize, train_ppo, train_reward, train_sft
from jobs.door import go_through, perform

STAGES = [job.STAGE for job in (synthesize, train_sft, collect_thumbs, train_reward, train_ppo, evaluate)]


def run(config: RunConfig) -> dict[str, Any]:
    """The whole loop from Python; gives what is in `summary.json`.

    Raises BadInput for a mistake in what was given, and Tripped where the run stops itself.
    """
    go_through(config, STAGES, after=conclude)
    return json.loads((config.run_folder / "summary.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    perform(STAGES, after=conclude)
