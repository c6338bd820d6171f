"""A look at a model while it is trained, which changes nothing of the training."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from transformers import TrainerCallback


class Examined(TrainerCallback):
    """Calls `examine` in the first of the processes every so many epochs, but not after the last step."""

    def __init__(self, examine: Callable[[], None], every: float) -> None:
        self.examine = examine
        self.every = every

    def on_step_end(self, args, state, control, **kwargs) -> None:
        part = args.num_train_epochs / state.max_steps / self.every  # of the way from one look to the next
        is_due = int(state.global_step * part) > int((state.global_step - 1) * part)
        if state.is_world_process_zero and is_due and state.global_step < state.max_steps:
            self.examine()


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """In here the model is in evaluation mode; after it the model, and everything random, are as they were before."""
    was_training, pythons, numpys = model.training, random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        model.eval()
        try:
            yield
        finally:
            model.train(was_training)
            random.setstate(pythons)
            np.random.set_state(numpys)
