"""What a run leaves to read: metrics as JSON lines and for TensorBoard, and every rollout as a Parquet row."""

import json
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
from tensorboardX import SummaryWriter
from transformers import PreTrainedTokenizerBase

from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.text import decode_prompts, decode_responses
from rlhf_ray.training.assess import response_kl

ROLLOUT = pa.schema(
    [
        ("step", pa.int32()),
        ("sample", pa.int32()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("ended", pa.bool_()),
        ("tokens", pa.int32()),
        ("score", pa.float32()),
        ("kl", pa.float32()),
    ]
)


class Tracker:
    """A context manager that writes into a folder: `metrics.jsonl`, `tensorboard/`, `rollouts.parquet`."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        self.folder = folder
        self.tokenizer = tokenizer

    def __enter__(self) -> "Tracker":
        self._lines = open(self.folder / "metrics.jsonl", "w", encoding="utf-8")
        self._board = SummaryWriter(str(self.folder / "tensorboard"))
        self._rollouts = pq.ParquetWriter(self.folder / "rollouts.parquet", ROLLOUT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._board.close()
        self._rollouts.close()

    def record(self, step: int, scored: ScoredRollout, metrics: Metrics) -> None:
        self._lines.write(json.dumps({"step": step} | metrics) + "\n")
        self._lines.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)
        self._rollouts.write_table(self._table(step, scored))

    def _table(self, step: int, scored: ScoredRollout) -> pa.Table:
        rollout = scored.rollout
        columns = {
            "step": [step] * len(rollout),
            "sample": rollout.prompt.sample.tolist(),
            "prompt": decode_prompts(self.tokenizer, rollout.prompt),
            "completion": decode_responses(self.tokenizer, rollout),
            "ended": rollout.ended.tolist(),
            "tokens": rollout.mask.sum(1).tolist(),
            "score": scored.score.tolist(),
            "kl": response_kl(scored).tolist(),
        }
        return pa.table(columns, schema=ROLLOUT)
