"""A model that learns, with its optimizer and the schedule of its learning rate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from rlhf_ray.models.plain import learned, relearn, whole

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class Student:
    """Only what has a gradient learns: with adapters, they and the head."""

    name: str
    model: nn.Module
    optimizer: AdamW
    schedule: LambdaLR

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that learn."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def gradient_norm(self, most: float) -> float:
        """The norm of the gradient before it is clipped to `most`."""
        return float(whole(nn.utils.clip_grad_norm_(self.parameters, most, foreach=True)))

    def not_finite(self) -> str | None:
        """The name of a parameter that holds something which is not a number, if there is one."""
        bad = (name for name, p in self.model.named_parameters() if not whole(p.isfinite().all()))
        return next(bad, None)

    def learned(self) -> dict[str, Tensor]:
        """The parameters that learn, whole. Of a sharded model all ranks must ask."""
        return learned(self.model)

    def relearn(self, path: Path) -> None:
        """Become what `learned` was, from its safetensors or a model folder's."""
        relearn(self.model, path)

    def state(self) -> dict[str, Any]:
        """All but the weights. Of sharded models only the first rank gets it, but all must ask."""
        optimizer = get_optimizer_state_dict(self.model, self.optimizer, options=WHOLE)
        return {"optimizer": optimizer, "schedule": self.schedule.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        set_optimizer_state_dict(self.model, self.optimizer, state["optimizer"], options=WHOLE)
        self.schedule.load_state_dict(state["schedule"])
