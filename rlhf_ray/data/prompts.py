"""An endless stream of prompt batches that can be entered at any step."""

import torch
from transformers import PreTrainedTokenizerBase

from rlhf_ray.config import BadInput
from rlhf_ray.experience import PromptBatch
from rlhf_ray.seeds import derive
from rlhf_ray.text import encode_prompts


class PromptStream:
    """All prompts in a new random order each epoch. A batch depends on the seed and its step alone."""

    def __init__(
        self, prompts: list[str], tokenizer: PreTrainedTokenizerBase, *, size: int, width: int, seed: int
    ) -> None:
        if not prompts:
            raise BadInput("prompts: expected at least one, got none")
        self.all = encode_prompts(tokenizer, prompts, width)
        self.size = size
        self.seed = seed

    def batch(self, step: int) -> PromptBatch:
        """Batch number `step` (from 0), its rows numbered from 0."""
        places = [divmod(place, len(self.all)) for place in range(step * self.size, (step + 1) * self.size)]
        orders = {epoch: self._order(epoch) for epoch in {epoch for epoch, _ in places}}
        chosen = self.all[torch.stack([orders[epoch][offset] for epoch, offset in places])]
        return PromptBatch(chosen.tokens, chosen.mask, torch.arange(self.size))

    def _order(self, epoch: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, "prompts", epoch))
        return torch.randperm(len(self.all), generator=generator)
