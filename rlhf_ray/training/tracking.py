"""What a run leaves to read: metrics as JSON lines and on boards, and every rollout as a Parquet row."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from rlhf_ray.config import BadInput
from rlhf_ray.durable import appearing, write_whole
from rlhf_ray.experience import Metrics, ScoredRollout
from rlhf_ray.text import decode_prompts, decode_responses
from rlhf_ray.training.assess import response_kl
from rlhf_ray.training.boards import Board, TensorBoard

ROLLOUT = pa.schema(
    [
        ("step", pa.int32()),
        ("sample", pa.int32()),
        ("version", pa.int32()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("ended", pa.bool_()),
        ("tokens", pa.int32()),
        ("score", pa.float32()),
        ("kl", pa.float32()),
        ("response_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
    ]
)  # and `reward/<name>` of every reward


class Tracker:
    """A context manager that writes `metrics.jsonl` and `tensorboard/` into a folder, and a table of rollouts a step
    into `parts`, from which `finish` makes `rollouts.parquet`.

    What an earlier attempt wrote up to step `after` stays; what it wrote later will be done again. `history` has the
    metrics of every step so far. `rewards` are the names of the score's parts. Further `boards` are told each step, and
    closed at the end.
    """

    def __init__(
        self,
        folder: Path,
        parts: Path,
        tokenizer: PreTrainedTokenizerBase,
        rewards: Sequence[str],
        after: int = 0,
        boards: Sequence[Board] = (),
    ) -> None:
        self.folder = folder
        self.tokenizer = tokenizer
        self.rewards = [f"reward/{name}" for name in rewards]
        self.schema = pa.schema([*ROLLOUT, *((name, pa.float32()) for name in self.rewards)])
        self.after = after
        self.history: list[Metrics] = []
        self._metrics, self._parts, self._boards = folder / "metrics.jsonl", parts, list(boards)

    def __enter__(self) -> "Tracker":
        lines = self._metrics.read_text(encoding="utf-8").splitlines()[: self.after] if self.after else []
        self._parts.mkdir(parents=True, exist_ok=True)
        parts = self._all_parts()
        for place, found in ((self._metrics, len(lines)), (self._parts, len(parts))):
            if found < self.after:
                raise BadInput(
                    f"{place}: expected the {self.after} steps of the newest checkpoint, got {found}; "
                    f"delete {self._parts.parent} and begin again"
                )
        self.history = [{name: value for name, value in json.loads(line).items() if name != "step"} for line in lines]
        write_whole(self._metrics, "".join(line + "\n" for line in lines))
        for part in parts[self.after :]:
            part.unlink()
        self._lines = open(self._metrics, "a", encoding="utf-8")
        self._boards.append(TensorBoard(self.folder / "tensorboard", self.after))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        for board in self._boards:
            board.close()

    def record(self, step: int, scored: ScoredRollout, metrics: Metrics) -> None:
        """Write down a step. It has reached the disk when this returns, so a checkpoint of the step may follow."""
        with appearing(self._parts / f"step-{step:06d}.parquet") as part:
            pq.write_table(self._table(step, scored), part)
        metrics = metrics | dict(zip(self.rewards, scored.parts.mean(0).tolist(), strict=True))
        self._lines.write(json.dumps({"step": step} | metrics) + "\n")
        self._lines.flush()
        os.fsync(self._lines.fileno())
        for board in self._boards:
            board.show(step, metrics)
        self.history.append(metrics)

    def finish(self) -> None:
        """Join the rollouts of all steps in `rollouts.parquet`."""
        with appearing(self.folder / "rollouts.parquet") as whole, pq.ParquetWriter(whole, self.schema) as writer:
            for part in self._all_parts():
                writer.write_table(pq.read_table(part))

    def _all_parts(self) -> list[Path]:
        return sorted(self._parts.glob("step-*.parquet"))

    def _table(self, step: int, scored: ScoredRollout) -> pa.Table:
        rollout = scored.rollout
        columns = {
            "step": [step] * len(rollout),
            "sample": rollout.prompt.sample.tolist(),
            "version": rollout.version.tolist(),
            "prompt": decode_prompts(self.tokenizer, rollout.prompt),
            "completion": decode_responses(self.tokenizer, rollout),
            "ended": rollout.ended.tolist(),
            "tokens": rollout.mask.sum(1).tolist(),
            "score": scored.score.tolist(),
            "kl": response_kl(scored).tolist(),
            "response_ids": [row[mask].tolist() for row, mask in zip(rollout.tokens, rollout.mask, strict=True)],
            "logprobs": [row[mask].tolist() for row, mask in zip(rollout.logprobs, rollout.mask, strict=True)],
        } | dict(zip(self.rewards, scored.parts.T.tolist(), strict=True))
        return pa.table(columns, schema=self.schema)
