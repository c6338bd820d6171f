"""An endless stream of prompt batches that can be entered at any step."""

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.config import BadInput
from rlhf_ray.experience import PromptBatch
from rlhf_ray.seeds import derive
from rlhf_ray.text import encode_prompts


class PromptStream:
    """All prompts in a new random order each epoch. A batch depends on the seed and its step alone.

    `size` rows a batch: each of its prompts stands there `samples` times, one row behind the other.
    """

    def __init__(
        self,
        prompts: list[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        size: int,
        width: int,
        seed: int,
        samples: int = 1,
    ) -> None:
        if not prompts:
            raise BadInput("prompts: expected at least one, got none")
        self.all = encode_prompts(tokenizer, prompts, width)
        self.size = size
        self.samples = samples
        self.seed = seed

    def batch(self, step: int) -> PromptBatch:
        """Batch number `step` (from 0), its rows numbered from 0."""
        count = self.size // self.samples
        places = torch.arange(step * count, (step + 1) * count)
        epochs = places.div(len(self.all), rounding_mode="floor")
        orders = [self._order(epoch) for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)]
        rows = torch.cat(orders)[places - epochs[0] * len(self.all)].repeat_interleave(self.samples)
        chosen, each = self.all[rows], torch.arange(self.size)
        return PromptBatch(chosen.tokens, chosen.mask, sample=each, group=each // self.samples)

    def _order(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, "prompts", epoch))
        return torch.randperm(len(self.all), generator=generator)
