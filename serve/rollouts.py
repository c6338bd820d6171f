"""What a run's tuned model said last, for others to be tried with."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rlhf_ray.config import BadInput

from serve.artefact import Artefact
from serve.verdicts import Pair

ASKED = 8  # prompts


def last_rollouts(tuned: Artefact) -> list[Pair]:
    """Distinct prompts of the last rollouts of a run's tuned model, and what was answered; none where it has no run.

    Raises BadInput where the run's rollouts cannot be read.
    """
    if not tuned.stage:
        return []
    path = Path(tuned.stage) / "rollouts.parquet"
    try:
        file = pq.ParquetFile(path)
        rows = file.read_row_group(file.num_row_groups - 1, ["prompt", "completion"]).to_pylist()
    except (OSError, pa.ArrowException, IndexError) as error:
        raise BadInput(f"{path}: expected the run's rollouts, got: {str(error).splitlines()[0]}") from None
    return [
        Pair(prompt, said) for prompt, said in list({row["prompt"]: row["completion"] for row in rows}.items())[-ASKED:]
    ]
