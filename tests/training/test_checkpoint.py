"""A run that was broken off and goes on ends as if nothing had happened, and a damaged checkpoint misleads nobody."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_ray.alarm import NotFinite
from rlhf_ray.algorithms.kl import KlState
from rlhf_ray.models.adapters import Lora
from rlhf_ray.training.assess import Returns
from rlhf_ray.training.checkpoint import Checkpoints, Progress

STEERED = Returns(kl_target=0.5, kl_horizon=50)  # its coefficient changes in every step
STEPS = 7


class Notebook:
    """A learner that is one text."""

    def __init__(self, text: str = "") -> None:
        self.text = text

    def remember(self, folder: str) -> None:
        Path(folder, "text").write_text(self.text, encoding="utf-8")
        Path(folder, "more").mkdir()
        Path(folder, "more", "twice").write_text(self.text * 2, encoding="utf-8")

    def recall(self, folder: str) -> None:
        self.text = Path(folder, "text").read_text(encoding="utf-8")


def progress(step: int) -> Progress:
    return Progress(step, KlState(0.1 + step / 100))


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", every=5)


@pytest.mark.parametrize(
    ("returns", "lora", "lead"),
    [(STEERED, None, 0), (STEERED, None, 1), (Returns(advantage="rloo"), None, 0), (STEERED, Lora(), 1)],
    ids=["gae", "gae ahead", "rloo", "lora ahead"],
)
@pytest.mark.parametrize("until", range(1, STEPS))
def test_a_run_that_was_broken_off_ends_as_the_undisturbed_one(
    new_run: Callable, until: int, returns: Returns, lora: Lora | None, lead: int
) -> None:
    whole, broken = new_run(), new_run()
    whole.lora = broken.lora = lora
    whole.lead = broken.lead = lead
    whole.train(steps=STEPS, returns=returns)
    with pytest.raises(KeyboardInterrupt):
        broken.train(steps=STEPS, returns=returns, until=until)
    done = (until - 1) // 2 * 2  # a checkpoint every two steps, and the step that was broken off has none
    broken.metrics = broken.metrics[:done]
    broken.train(steps=STEPS, returns=returns)
    assert broken.metrics == whole.metrics
    assert broken.learner.weights().checksum == whole.learner.weights().checksum
    assert states(broken.learner) == states(whole.learner)


def states(learner: Any) -> str:
    return json.dumps([student.state() for student in learner.students], sort_keys=True, default=torch.Tensor.tolist)


def test_a_run_that_has_finished_learns_nothing_more(new_run: Callable) -> None:
    run = new_run()
    before = run.train(steps=4)[:]
    checksum = run.learner.weights().checksum
    assert run.train(steps=4) == before
    assert run.learner.weights().checksum == checksum


def test_where_there_is_none_nothing_is_restored(checkpoints: Checkpoints) -> None:
    assert checkpoints.restore(Notebook()) is None


def test_they_are_saved_when_due_and_at_the_end(checkpoints: Checkpoints) -> None:
    for step in range(1, 13):
        checkpoints.save_if_due(progress(step), 12, Notebook(str(step)))
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["step-000010", "step-000012"]


def test_the_newest_is_restored(checkpoints: Checkpoints) -> None:
    for step in (5, 10):
        checkpoints.save(progress(step), Notebook(f"step {step}"))
    learner = Notebook()
    assert checkpoints.restore(learner) == progress(10)
    assert learner.text == "step 10"


def flip(folder: Path) -> None:
    data = bytearray((folder / "more" / "twice").read_bytes())
    data[3] ^= 1
    (folder / "more" / "twice").write_bytes(bytes(data))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "a truncated file": lambda folder: (folder / "text").write_text("ste", encoding="utf-8"),
    "a missing file": lambda folder: (folder / "text").unlink(),
    "an extra file": lambda folder: (folder / "extra").write_text("?", encoding="utf-8"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: (folder / "manifest.json").write_text('{"files": {', encoding="utf-8"),
    "another's manifest": lambda folder: shutil.copy(folder.parent / "step-000005" / "manifest.json", folder),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_named_and_passed_over(
    checkpoints: Checkpoints, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    for step in (5, 10):
        checkpoints.save(progress(step), Notebook(f"step {step}"))
    damage(checkpoints.folder / "step-000010")
    learner = Notebook()
    assert checkpoints.restore(learner) == progress(5)
    assert learner.text == "step 5"
    assert "step-000010: damaged, passed over" in caplog.text


def test_what_a_killed_save_left_is_swept(checkpoints: Checkpoints) -> None:
    checkpoints.save(progress(5), Notebook("whole"))
    litter = checkpoints.folder / ".tmp-step-000010"
    litter.mkdir()
    (litter / "text").write_text("half", encoding="utf-8")
    again = Checkpoints(checkpoints.folder, every=5)
    assert not litter.exists()
    assert again.restore(Notebook()) == progress(5)


def test_weights_that_are_no_numbers_are_never_saved(new_run: Callable) -> None:
    run = new_run()
    run.train(steps=2)
    with torch.no_grad():
        next(run.learner.policy.parameters())[0, 0] = torch.nan
    checkpoints = Checkpoints(run.folder, every=2)
    with pytest.raises(NotFinite, match="not finite in the weights"):
        checkpoints.save(progress(4), run.learner)
    assert [path.name for path in run.folder.glob("step-*")] == ["step-000002"]


def test_the_policy_of_a_checkpoint_loads_in_plain_transformers(new_run: Callable) -> None:
    from transformers import AutoModelForCausalLM

    from rlhf_ray.weights import pack

    run = new_run()
    run.train(steps=2)
    model = AutoModelForCausalLM.from_pretrained(run.folder / "step-000002" / "policy")
    assert pack(model.parameters(), 0).checksum == run.learner.weights().checksum
