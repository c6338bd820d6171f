"""Fine-tuning that is killed goes on from its newest savepoint."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlhf_ray.training.savepoints import OnDisk
from rlhf_ray.training.sft import SFT, fine_tune

CORPUS = [
    {"prompt": prompt, "completion": text}
    for prompt in ("the", "how", "pack", "my box")
    for text in ("quick", "brown fox", "jumps over", "the lazy dog", "daft zebras")
]


class Killed(OnDisk):
    """Savepoints of a training that is killed right after it was saved."""

    def keep(self, checkpoint: Path) -> None:
        super().keep(checkpoint)
        raise KeyboardInterrupt


def test_killed_anywhere_it_ends_with_the_bits_of_an_undisturbed_training(policy_folder: str, tmp_path: Path) -> None:
    def tune(name: str, savepoints: OnDisk | None) -> dict[str, torch.Tensor]:
        fine_tune(
            base=policy_folder,
            corpus=CORPUS,
            sft=SFT(epochs=2, batch=4, lr=1e-3, most_tokens=64),
            seed=3,
            folder=str(tmp_path / name),
            report=lambda step, of, metrics: None,
            savepoints=savepoints,
        )
        return load_file(tmp_path / name / "model.safetensors")

    undisturbed = tune("undisturbed", None)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            tune("resumed", Killed(tmp_path / "scratch"))
    resumed = tune("resumed", OnDisk(tmp_path / "scratch"))
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
