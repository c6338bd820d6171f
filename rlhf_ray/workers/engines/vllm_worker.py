"""What vLLM's worker learns from us: to take weights that are handed to it. vLLM imports this by its name."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


class Reloading:
    """A base that vLLM adds to its worker's (`worker_extension_cls`), whose `model_runner` holds the model."""

    model_runner: Any

    def reload_from(self, tensors: Sequence[tuple[str, Tensor]]) -> None:
        """`load_weights` splits and joins them as the architecture wants, and copies each to where its own lies."""
        self.model_runner.model.load_weights(iter(tensors))
