"""The Reward judges pairs of prompt and completion. A plain class; `reward_replica.py` deploys it.

Rows are read in batches whose width is that of the row itself, rounded up, and whose rows are a multiple of four: in
those shapes a row's bits do not depend on its neighbours, so the same pair always gets the same score.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from pydantic import Field

from rlhf_ray.chat import plain_ids, prompt_ids
from rlhf_ray.config import BadInput, Config
from rlhf_ray.models.loading import context_length, load_tokenizer
from rlhf_ray.models.scalar import Scalar, at_last_token

from serve.artefact import Artefact
from serve.orders import Refusal
from serve.verdicts import Pair, Verdict

WIDTH, HEIGHT = 32, 4  # columns and rows come in multiples of these


class Judging(Config):
    """How pairs are judged."""

    most_tokens: int = Field(201, ge=2, le=100_000, description="Most tokens of a pair, with its end-of-text.")
    rows: int = Field(16, ge=4, le=1024, multiple_of=4, description="Pairs that are read together at most.")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where the model computes.")


class Reward:
    def __init__(self, model: Artefact, config: Judging) -> None:
        model.verify()
        if config.most_tokens > context_length(model.folder):
            raise BadInput(
                f"judging.most_tokens: expected at most {context_length(model.folder)}, the context of "
                f"{model.folder}, got {config.most_tokens}"
            )
        self.model, self.config = model, config
        self.tokenizer = load_tokenizer(model.folder)
        self.scalar = Scalar.load(model.folder).to(config.device)

    def about(self) -> Artefact:
        return self.model

    def is_idle(self) -> bool:
        return True  # who judges holds it meanwhile, and nothing is to be stopped

    def close(self) -> None:
        """Nothing: its memory goes with it."""

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict | Refusal]:
        """A verdict a pair, in their order; a refusal for one that is too long or empty."""
        found: dict[int, Verdict | Refusal] = {}
        shelves: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for place, pair in enumerate(pairs):
            try:
                ids = self._encode(pair)
            except BadInput:
                found[place] = Refusal(400, f"expected a prompt that the model's chat template knows in pair {place}")
                continue
            if 1 < len(ids) <= self.config.most_tokens:
                shelves[-(-len(ids) // WIDTH) * WIDTH].append((place, ids))
            else:
                found[place] = Refusal(
                    400, f"expected 1 to {self.config.most_tokens - 1} tokens in pair {place}, got {len(ids) - 1}"
                )
        for width, shelf in shelves.items():
            for start in range(0, len(shelf), self.config.rows):
                places, rows = zip(*shelf[start : start + self.config.rows], strict=True)
                found |= zip(places, self._read(rows, width), strict=True)
        return [found[place] for place in range(len(pairs))]

    def _encode(self, pair: Pair) -> list[int]:
        """Prompt and completion are encoded apart, as in generation and training; a text alone is no prompt."""
        if pair.completion is None:
            return [*plain_ids(self.tokenizer, pair.prompt), self.tokenizer.eos_token_id]
        said = plain_ids(self.tokenizer, pair.completion)
        return [*prompt_ids(self.tokenizer, pair.prompt), *said, self.tokenizer.eos_token_id]

    @torch.inference_mode()
    def _read(self, rows: Sequence[list[int]], width: int) -> list[Verdict]:
        tokens = torch.full((-(-len(rows) // HEIGHT) * HEIGHT, width), self.tokenizer.pad_token_id)
        mask = torch.zeros(tokens.shape, dtype=torch.bool)
        mask[:, 0] = True  # a row that is there for the shape alone
        for row, ids in enumerate(rows):
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = True
        mask = mask.to(self.config.device)
        raw = at_last_token(self.scalar.raw_in_shape(tokens.to(mask.device), mask), mask)[: len(rows)]
        scores, likely = (raw - self.scalar.mean) / self.scalar.std, raw.sigmoid()
        lengths = map(len, rows)
        return [Verdict(*each) for each in zip(scores.tolist(), likely.tolist(), lengths, strict=True)]
