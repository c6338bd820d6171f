"""A recording speaks as the sampler did, and what it cannot say is noticed before training begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Metrics, Rollout, ScoredRollout
from rlhf_ray.text import decode_prompts
from rlhf_ray.training.ppo import PPO
from rlhf_ray.training.replay import Recording
from rlhf_ray.training.tracking import Tracker
from rlhf_ray.weights import Weights
from rlhf_ray.workers.sampler import Sampling

STEPS = 3


class Remembering:
    """A sampler whose rollouts stay."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.said: list[Rollout] = []

    def generate(self, prompts: Any, weights: Weights, seed: int) -> Rollout:
        self.said.append(self.sampler.generate(prompts, weights, seed))
        return self.said[-1]


@pytest.fixture
def recorded(new_run: Callable, tmp_path: Path, tokenizer: Any) -> tuple[Path, list[Rollout], list[Metrics]]:
    """The table of a run of its own, what was said in it, and its metrics."""
    run = new_run()
    run.sampler = Remembering(run.sampler)
    with Tracker(tmp_path, tmp_path / "parts", tokenizer, ["taste"]) as tracker:

        def keep(scored: ScoredRollout) -> Metrics:
            tracker.record(len(run.metrics) + 1, scored, {})
            return {}

        run.opinion = keep
        metrics = run.train(steps=STEPS, episodes=20, lr=1e-2)
        tracker.finish()
    return tmp_path / "rollouts.parquet", run.sampler.said, metrics


def recording(path: Path, run: Any, steps: int = STEPS, **sampling: int) -> Recording:
    known = {"prompt_tokens": 12, "response_tokens": 8}
    ppo = PPO(steps=steps, episodes=20)
    return Recording(path, run.tokenizer, run.stream(20), ppo, Sampling.model_validate(known | sampling))


def test_a_recording_says_what_was_said(recorded: Any, run: Any) -> None:
    path, said, _ = recorded
    tape = recording(path, run)
    for step, rollout in enumerate(said, start=1):
        again = tape.generate(run.stream(20).batch(step - 1), None, seed=step)  # type: ignore[arg-type]
        for name in ("mask", "ended"):
            assert torch.equal(getattr(again, name), getattr(rollout, name))
        assert torch.equal(again.tokens[again.mask], rollout.tokens[rollout.mask])
        assert torch.equal(again.logprobs[again.mask], rollout.logprobs[rollout.mask])
        assert torch.equal(again.prompt.tokens, rollout.prompt.tokens)
        assert torch.equal(again.prompt.sample, rollout.prompt.sample)


def test_a_replay_with_the_same_settings_learns_what_the_run_learned(recorded: Any, new_run: Callable) -> None:
    path, _, metrics = recorded
    again = new_run()
    again.sampler, again.on_policy = recording(path, again), False
    replayed = again.train(steps=STEPS, episodes=20, lr=1e-2)
    for one, other in zip(metrics, replayed, strict=True):
        assert set(one) - set(other) == {"rollout/lag"}  # whoever spoke in a recording has no version
        assert other == pytest.approx({name: one[name] for name in other}, rel=1e-3, abs=1e-4)


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(), r"step 3: expected 20 rollouts, got 19"),
        (lambda rows: rows[1].update(response_ids=[]), r"row 1: response_ids: .* at least 1 item"),
        (lambda rows: rows[1].update(response_ids=[9] * 9, logprobs=[0.0] * 9), r"row 1: .*expected at most 8.* got 9"),
        (lambda rows: rows[1]["logprobs"].append(0.0), r"row 1: logprobs: expected \d, one a token, got \d"),
        (lambda rows: rows[1]["response_ids"].__setitem__(0, 64), r"row 1: .*expected at most 8 below 64, got .* 64"),
        (lambda rows: rows[1]["response_ids"].__setitem__(0, -1), r"row 1: response_ids.0: .* got -1"),
        (lambda rows: rows[1]["logprobs"].__setitem__(0, float("nan")), r"row 1: logprobs.0: .* got nan"),
        (lambda rows: rows[1]["logprobs"].__setitem__(0, 0.5), r"row 1: logprobs.0: .* got 0.5"),
        (
            lambda rows: rows[1].update(prompt="dog " * 3),
            r"row 1: prompt: expected one of this run, got 'dog dog dog '",
        ),
        (lambda rows: rows[1].update(sample=None), r"row 1: sample: .* got None"),
        (lambda rows: [row.pop("logprobs") for row in rows], r"expected the column 'logprobs'"),
    ],
)
def test_a_table_that_cannot_be_replayed(recorded: Any, run: Any, change: Any, said: str) -> None:
    path, *_ = recorded
    rewrite(path, change)
    with pytest.raises(BadInput, match=said):
        recording(path, run)


def test_groups_that_were_not_recorded(recorded: Any, run: Any) -> None:
    path, *_ = recorded
    known = decode_prompts(run.tokenizer, run.stream(20).all)
    rewrite(path, lambda rows: [row.update(prompt=known[number % 3]) for number, row in enumerate(rows)])
    ppo = PPO(steps=STEPS, episodes=20, samples_per_prompt=10)
    with pytest.raises(BadInput, match=r"step 1: expected 10 rollouts to each prompt .* got 6"):
        Recording(path, run.tokenizer, run.stream(20), ppo, Sampling(prompt_tokens=12, response_tokens=8))


def test_a_table_that_is_too_short(recorded: Any, run: Any) -> None:
    with pytest.raises(BadInput, match=r"step 4: expected 20 rollouts, got 0"):
        recording(recorded[0], run, steps=4)


def test_the_kl_of_a_replay_is_the_learners_own(recorded: Any, new_run: Callable) -> None:
    """The judge here takes who spoke for the reference: a learner that stands still is left behind."""
    path, _, metrics = recorded
    again = new_run()
    again.sampler, again.on_policy = recording(path, again), False
    still = [line["objective/kl"] for line in again.train(steps=STEPS, episodes=20, lr=1e-9)]
    assert [line["objective/kl"] for line in metrics] == pytest.approx([0.0] * STEPS, abs=1e-3)
    assert still[0] == pytest.approx(0.0, abs=1e-3)
    assert all(kl < -1 for kl in still[1:])
