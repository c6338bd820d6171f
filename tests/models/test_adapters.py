"""Adapters change nothing until they learn, are all that learns, and leave a plain model behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_ray.config import BadInput
from rlhf_ray.experience import Rollout
from rlhf_ray.models.adapters import Lora, adapt, adapters_off, check_targets
from rlhf_ray.models.loading import load_causal, load_classifier
from rlhf_ray.models.plain import changing_parameters, learned, plain, plain_parameters, relearn
from rlhf_ray.models.policy import response_logprobs
from rlhf_ray.weights import pack, unpack

LORA = Lora(r=3, alpha=7)
SOME = Lora(targets=["c_attn", "c_fc"])


@pytest.fixture
def rollout(rollout_of: Callable) -> Rollout:
    return rollout_of([[5, 6], [7], [8, 9, 10]], [[20, 21, 0], [22, 23, 24, 25], [26, 0]])


def logprobs(model: torch.nn.Module, rollout: Rollout) -> torch.Tensor:
    with torch.no_grad():
        return response_logprobs(model, rollout, 1.0)[0]  # type: ignore[arg-type]


def learn_something(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("lora", [LORA, SOME])
def test_an_adapted_model_computes_what_it_did_before(policy_folder: str, rollout: Rollout, lora: Lora) -> None:
    model = load_causal(policy_folder)
    before = logprobs(model, rollout)
    adapt(model, lora, seed=1)
    assert torch.equal(logprobs(model, rollout), before)
    assert not model.training


def test_only_adapters_learn_and_a_classifiers_head(policy_folder: str, reward_folder: str) -> None:
    policy, classifier = load_causal(policy_folder), load_classifier(reward_folder)
    for model in (policy, classifier):
        adapt(model, LORA, seed=1)
    assert all(".lora_" in name for name in learned(policy))
    assert {name for name in learned(classifier) if ".lora_" not in name} == {"score.weight"}
    assert len(learned(policy)) == 2 * 4 * 2  # two layers of four linear ones, two tensors each
    adapted = [name for name, _ in changing_parameters(policy)]
    assert len(adapted) == 4 * 2
    assert all(name.endswith(".weight") for name in adapted)


def test_the_seed_decides_how_adapters_begin(policy_folder: str) -> None:
    state = torch.random.get_rng_state()
    begun = []
    for seed in (1, 1, 2):
        model = load_causal(policy_folder)
        adapt(model, LORA, seed)
        begun.append(torch.cat([tensor.flatten() for tensor in learned(model).values()]))
    assert torch.equal(begun[0], begun[1])
    assert not torch.equal(begun[0], begun[2])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_with_adapters_off_it_is_the_base_and_goes_on_learning_afterwards(policy_folder: str, rollout: Rollout) -> None:
    model = load_causal(policy_folder)
    before = logprobs(model, rollout)
    adapt(model, LORA, seed=1)
    learn_something(model)
    after = logprobs(model, rollout)
    assert (after - before).abs().max() > 0.01
    names = list(learned(model))
    with adapters_off(model):
        assert torch.equal(logprobs(model, rollout), before)
    assert torch.equal(logprobs(model, rollout), after)
    assert list(learned(model)) == names


@pytest.mark.parametrize("lora", [LORA, SOME])
def test_the_plain_model_computes_the_same_and_the_base_stays_as_it_was(
    policy_folder: str, rollout: Rollout, lora: Lora
) -> None:
    model, base = load_causal(policy_folder), load_causal(policy_folder)
    adapt(model, lora, seed=1)
    learn_something(model)
    copied = plain(model)
    assert [name for name, _ in copied.named_parameters()] == [name for name, _ in base.named_parameters()]
    torch.testing.assert_close(logprobs(copied, rollout), logprobs(model, rollout), atol=1e-5, rtol=1e-5)
    speaker = load_causal(policy_folder)
    unpack(pack((tensor for _, tensor in plain_parameters(model)), version=1), speaker)
    assert torch.equal(logprobs(speaker, rollout), logprobs(copied, rollout))
    with adapters_off(model):
        assert torch.equal(logprobs(model, rollout), logprobs(base, rollout))


def test_merged_or_as_adapters_it_loads_in_plain_transformers(
    policy_folder: str, rollout: Rollout, tmp_path: Path
) -> None:
    model = load_causal(policy_folder)
    adapt(model, LORA, seed=1)
    learn_something(model)
    plain(model).save_pretrained(tmp_path / "merged")
    model.save_pretrained(tmp_path / "adapters")
    assert not (tmp_path / "adapters" / "model.safetensors").exists()
    found = [
        logprobs(AutoModelForCausalLM.from_pretrained(tmp_path / form).eval(), rollout)
        for form in ("merged", "adapters")
    ]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0], logprobs(model, rollout), atol=1e-5, rtol=1e-5)


def test_a_classifier_leaves_a_plain_one_with_its_head(reward_folder: str, tmp_path: Path) -> None:
    model = load_classifier(reward_folder)
    adapt(model, LORA, seed=1)
    learn_something(model)
    plain(model).save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokens = torch.tensor([[5, 6, 7, 0]])
    torch.testing.assert_close(again(tokens).logits, model(tokens).logits, atol=1e-5, rtol=1e-5)
    assert again.config.score_std == model.config.score_std


def test_what_was_learned_can_be_learned_again(policy_folder: str, rollout: Rollout, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    one, other = load_causal(policy_folder), load_causal(policy_folder)
    for seed, model in enumerate((one, other)):
        adapt(model, LORA, seed)
    learn_something(one)
    save_file(learned(one), tmp_path / "learned.safetensors")
    relearn(other, tmp_path / "learned.safetensors")
    assert torch.equal(logprobs(other, rollout), logprobs(one, rollout))


def test_layers_that_are_not_there_are_an_error_before_any_weight_is_read(policy_folder: str, tmp_path: Path) -> None:
    config = Path(policy_folder, "config.json").read_text(encoding="utf-8")
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    check_targets(str(tmp_path), SOME)
    with pytest.raises(BadInput, match=r"lora.targets: expected names of layers of GPT2LMHeadModel, got \['q_proj'\]"):
        check_targets(str(tmp_path), Lora(targets=["q_proj"]))
