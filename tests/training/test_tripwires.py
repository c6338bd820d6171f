"""What goes silently wrong is planted in a real run, and the run says so: what happened, when, why, and what to do."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_ray.alarm import NotFinite, Tripped
from rlhf_ray.algorithms.kl import KlState
from rlhf_ray.experience import Metrics, Rollout, ScoredRollout
from rlhf_ray.training.assess import Returns
from rlhf_ray.training.checkpoint import Progress
from rlhf_ray.training.tripwires import WIRES, Tripwires, alarms
from rlhf_ray.workers.learner import Learner
from rlhf_ray.workers.scorer import Scorer, Scoring

ROOT = Path(__file__).parent.parent.parent
FAST = {"steps": 24, "episodes": 32, "lr": 2e-2}
LIMITS = {"patience": 3, "kl_limit": 2.0}
ONLY = dict.fromkeys(Tripwires.model_fields, "off") | LIMITS


def only(*names: str, action: str = "stop") -> Tripwires:
    """These wires and no others, so that a run that goes wrong in several ways says the one that is looked for."""
    return Tripwires.model_validate(ONLY | dict.fromkeys(names, action))


class Indifferent:
    """Gives every response the same score."""

    def score(self, rollout: Rollout) -> ScoredRollout:
        return ScoredRollout(
            rollout,
            torch.ones(len(rollout)),
            torch.ones(len(rollout), 1),
            torch.zeros_like(rollout.ended),
            rollout.logprobs,
        )


def assert_says(tripped: Tripped, name: str, what: str) -> None:
    """The alarm's name, the step, what happened, the likely cause and what to do."""
    assert tripped.alarm.name == name
    assert tripped.alarm.step is not None
    said = str(tripped)
    assert re.search(what, said), said
    assert "\n" not in said
    for part in (f"{name} at step {tripped.alarm.step}: ", "Likely cause: ", "What to do: "):
        assert part in said


def test_frozen_parameters(run: Any) -> None:
    def freeze(learner: Learner) -> None:
        learner.policy.transformer.wpe.weight.requires_grad_(False)

    run.prepare = freeze
    with pytest.raises(Tripped) as caught:
        run.train(steps=3, tripwires=Tripwires(patience=1000))
    assert_says(caught.value, "frozen", r"the first update changed 9\d\.\d% of the policy's tensors")
    assert len(run.metrics) == 1


@pytest.mark.parametrize("advantage", ["gae", "group"])
def test_no_advantage(run: Any, advantage: str) -> None:
    """Groups leave nothing at all, and a critic only noise that is blown up; neither is a policy that is frozen."""
    run.judge = Indifferent()
    returns = Returns(advantage=advantage, kl_coef=0.0)
    with pytest.raises(Tripped) as caught:
        run.train(steps=8, returns=returns, tripwires=only("advantages", "frozen"))
    assert_says(caught.value, "advantages", "all scores are the same or all advantages zero")
    assert len(run.metrics) == 3


def test_kl_above_its_limit(run: Any) -> None:
    run.judge = Paid(Scorer(run.reward, run.policy, Scoring(), 1.0))
    with pytest.raises(Tripped) as caught:
        run.train(**FAST, tripwires=only("kl"))
    assert_says(caught.value, "kl", r"KL to the reference is \d+\.\d nats a response, above tripwires.kl_limit \(2\)")


class Paid:
    """The reference of a real scorer, and a score for the liked token."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def score(self, rollout: Rollout) -> ScoredRollout:
        scored = self.scorer.score(rollout)
        liked = ((rollout.tokens == 30) & rollout.mask).sum(1) / rollout.mask.sum(1)
        return ScoredRollout(rollout, liked, liked[:, None], scored.clipped, scored.ref_logprobs)


def test_entropy_that_collapses(run: Any) -> None:
    with pytest.raises(Tripped) as caught:
        run.train(**FAST, tripwires=only("entropy"))
    assert_says(caught.value, "entropy", r"entropy has fallen from \d\.\d+ to 0\.\d+ nats a token")


def test_one_answer_to_everything(run: Any) -> None:
    with pytest.raises(Tripped) as caught:
        run.train(**FAST, tripwires=only("repetition"))
    assert_says(caught.value, "repetition", r"one response was given to \d+% of the prompts")


def test_responses_that_do_not_end(run: Any) -> None:
    """A random model ends one response in eight or so."""
    run.train(steps=7, tripwires=only("endings", action="warn"))
    assert [(alarm.name, alarm.step) for alarm in run.warnings] == [("endings", 3), ("endings", 6)]
    assert re.search(r"\d+% of the responses end by themselves, after \d\.\d tokens", str(run.warnings[0]))


def test_a_reward_that_rises_while_the_rubric_falls(run: Any) -> None:
    def against(scored: ScoredRollout) -> Metrics:
        return {"objective/rubric": 1 - float(scored.score.mean()), "objective/rubric_error": 0.01}

    run.opinion = against
    with pytest.raises(Tripped) as caught:
        run.train(**FAST, tripwires=only("divergence"))
    assert_says(caught.value, "divergence", r"the reward rose to 0\.\d+ while the rubric fell to 0\.\d+")


def test_a_judge_that_agrees_with_the_reward_is_no_alarm(run: Any) -> None:
    run.opinion = lambda scored: {"objective/rubric": float(scored.score.mean()), "objective/rubric_error": 0.01}
    run.train(**FAST, tripwires=only("divergence"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_score_that_is_no_number(run: Any, value: float) -> None:
    scorer = Scorer(run.reward, run.policy, Scoring(), 1.0)
    torch.nn.init.constant_(scorer.rewards["model"].scalar.classifier.score.weight, value)
    run.judge = scorer
    with pytest.raises(NotFinite, match=r"score at step 1: the reward 'model' gave .* for sample 0. Likely cause"):
        run.train(steps=2)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("model", ["policy", "critic"])
def test_numbers_that_are_not_finite_in_an_update(run: Any, model: str, value: float) -> None:
    def spoil(learner: Learner) -> None:
        head = learner.policy.transformer.ln_f.bias if model == "policy" else learner.critic.classifier.score.weight
        head.register_hook(lambda gradient: torch.full_like(gradient, value))
        before.append(learner.weights().checksum)

    before: list[str] = []
    run.prepare = spoil
    with pytest.raises(NotFinite) as caught:
        run.train(steps=2)
    name = "policy/grad_norm" if model == "policy" else "val/grad_norm"
    assert_says(caught.value, name, "no step was taken with it")
    assert run.learner.weights().checksum == before[0]


def test_a_learner_that_lacks_updates(run: Any) -> None:
    """As if a checkpoint of step 3 had been restored without what the learner had learned by then."""
    run.metrics = [{}] * 3
    with pytest.raises(Tripped) as caught:
        run.train(steps=5, begin=Progress(3, KlState(0.05)))
    assert_says(caught.value, "updates", "the learner has made 0 of 3 updates")


def test_a_run_that_stopped_itself_keeps_its_newest_good_checkpoint(run: Any) -> None:
    with pytest.raises(Tripped):
        run.train(**FAST, tripwires=only("entropy"))
    last_good = len(run.metrics) - 3  # it was wrong for as long as patience lasts, and nothing wrong is saved
    assert max(path.name for path in run.folder.glob("step-*")) == f"step-{last_good // 2 * 2:06d}"


def test_a_warning_lets_the_run_go_on(run: Any) -> None:
    run.train(**FAST, tripwires=only("entropy", action="warn"))
    assert len(run.metrics) == FAST["steps"]
    assert {alarm.name for alarm in run.warnings} == {"entropy"}


def healthy(step: int) -> Metrics:
    return {
        "policy/changed_share": 1.0,
        "objective/advantages_std": 1.0,
        "objective/kl": 0.1 * step,
        "objective/entropy": 1.0 - 0.01 * step,
        "objective/scores": 0.02 * step,
        "objective/scores_std": 0.9,
        "objective/rubric": 0.4 + 0.01 * step,
        "objective/rubric_error": 0.04,
        "response/eos_rate": 0.98,
        "response/length": 40.0,
        "response/repeated_share": 0.02,
        "response/distinct_2": 0.4,
    }


def test_a_healthy_run_is_left_alone() -> None:
    history = [healthy(step) for step in range(1, 40)]
    assert [alarms(history[:step], 3, 12.0) for step in range(1, 40)] == [[]] * 39


WRONG = {
    "advantages": {"objective/advantages_std": 0.0},
    "kl": {"objective/kl": 13.0},
    "entropy": {"objective/entropy": 0.19},
    "endings": {"response/length": 1.0},
    "repetition": {"response/repeated_share": 0.5},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wire_waits_as_long_as_patience_lasts(name: str) -> None:
    history = [healthy(step) for step in range(1, 5)] + [healthy(5) | WRONG[name]] * 6
    tripped = [[alarm.name for alarm in alarms(history[:step], 3, 12.0)] for step in range(1, 11)]
    assert tripped == [[]] * 6 + [[name], [], [], [name]]


def test_every_wire_can_be_told_what_to_do() -> None:
    assert {wire.name for wire in WIRES} == set(Tripwires.model_fields) - set(LIMITS)


def test_the_list_of_planted_faults_quotes_what_is_said_today() -> None:
    """Every cause and remedy in docs/tripwires.md is a text of the package, word for word."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "rlhf_ray").rglob("*.py")]
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    listed = (ROOT / "docs" / "tripwires.md").read_text(encoding="utf-8")
    quoted = re.findall(r"Likely cause: (.+?)\. What to do: (.+?)\. \|", listed)
    assert len(quoted) >= 18
    assert {part for quote in quoted for part in quote} <= texts
