"""Configs are strict: whatever is wrong is said in one line that names the field, what was expected and what came."""

from pathlib import Path

import pytest
from ray.serve.schema import ServeDeploySchema

from rlhf_ray.config import BadInput, Config, check, load
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.pretrain import Pretraining

from serve.app import Serving
from serve.file import Anything

ROOT = Path(__file__).parent.parent


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("ppo: {steps: 3}\ncluster: none\n", encoding="utf-8")
    return path


def serving(path):
    values = load(Anything, path).model_dump()
    assert ServeDeploySchema.model_validate(values)
    return [check(Serving, application["args"], str(path)) for application in values["applications"]]


OTHERS = {"pretrain.yaml": lambda path: load(Pretraining, path), "serve.yaml": serving}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.*")), ids=lambda path: path.name)
def test_every_config_loads(path):
    assert OTHERS.get(path.name, lambda path: load(RunConfig, path))(path)


def test_an_override_sets_a_nested_key(tiny):
    config = load(RunConfig, tiny, ["ppo.steps=7", "returns.kl_coef=1e-2", "seed=4"])
    assert (config.ppo.steps, config.returns.kl_coef, config.seed) == (7, 0.01, 4)


def test_off_is_a_word_and_true_is_not(tiny):
    config = load(RunConfig, tiny, ["tripwires.kl=off", "reward.weigh_raters=true"])
    assert (config.tripwires.kl, config.reward.weigh_raters) == ("off", True)
    with pytest.raises(BadInput, match=r"reward.weigh_raters: .* got 'yes'"):
        load(RunConfig, tiny, ["reward.weigh_raters=yes"])


def test_a_config_is_frozen(tiny):
    with pytest.raises(ValueError, match="frozen"):
        load(RunConfig, tiny).seed = 3


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("ppo.stepz=3", "ppo.stepz: unknown key, did you mean 'steps'?"),
        ("pppo.steps=3", "pppo: unknown key, did you mean 'ppo'?"),
        ("ppo.steps=many", "ppo.steps: input should be a valid integer, got 'many'"),
        ("ppo.steps=0", "ppo.steps: input should be greater than or equal to 1, got 0"),
        ("ppo.steps=true", "ppo.steps: input should be a valid integer, got True"),
        ("ppo.steps=2.5", "ppo.steps: input should be a valid integer, got 2.5"),
        ("cluster.samplers=0", "cluster.samplers: input should be greater than or equal to 1, got 0"),
        ("cluster.samplerz=1", "cluster.samplerz: unknown key, did you mean 'samplers'?"),
        ("reward.epocs=3", "reward.epocs: unknown key, did you mean 'epochs'?"),
        ("scoring.rewards={a: {sauce: model}}", "scoring.rewards.a.sauce: unknown key, did you mean 'source'?"),
        ("lora.rank=3", "lora.rank: unknown key, expected one of r, alpha, targets"),
        ("folder=2026-13-01", "folder: expected a YAML value, got '2026-13-01'"),
        ("learning.critic_warmup=3", "learning.critic_warmup: expected less than ppo.steps (3), got 3"),
        ("returns={kl_target: 1.0, kl_coef: 0.0}", "kl_coef: expected more than 0 with kl_target"),
        ("sft=true", "sft: expected keys and values, got True"),
        ("ppo=5", "ppo: expected keys and values, got 5"),
        ("sft.epochs=x", "sft.epochs: input should be a valid integer, got 'x'"),
        ("learning.schedule=cubic", "learning.schedule: input should be 'constant' or 'linear', got 'cubic'"),
        ("learning.minibatch=200", "learning.minibatch: expected at most ppo.episodes (128), got 200"),
        (
            "learning.microbatch_tokens=0",
            "learning.microbatch_tokens: input should be greater than or equal to 1, got 0",
        ),
        ("returns={kl_in: loss}", "returns: kl_estimator: expected k2 or k3 with kl_in=loss"),
        ("ppo.samples_per_prompt=3", "ppo.samples_per_prompt: expected a divisor of ppo.episodes (128), got 3"),
        ("returns.advantage=rloo", "ppo.samples_per_prompt: expected at least 2 with returns.advantage=rloo, got 1"),
        ("reward.most_tokens=20", "reward.most_tokens: expected at least"),
        ("seed", "seed: expected key=value"),
        ("=3", "=3: expected key=value"),
        ("learning.policy_lr=.inf", "learning.policy_lr: input should be a finite number, got inf"),
        ("returns.kl_coef=.nan", "returns.kl_coef: input should be a finite number, got nan"),
        ("ppo={steps: 1, steps: 2}", "ppo: expected a YAML value"),
        ("ppo.steps=[", "ppo.steps: expected a YAML value, got '['"),
    ],
)
def test_a_mistake_names_the_field_what_was_expected_and_what_came(tiny, override, said):
    with pytest.raises(BadInput) as mistake:
        load(RunConfig, tiny, [override])
    assert said in str(mistake.value)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ppo: [", "expected valid YAML"),
        ("seed: 1\nseed: 2\n", "expected valid YAML, got the key 'seed' twice"),
        ("- 1\n", "expected keys and values, got list"),
        ("a: !!python/object/apply:os.getcwd []\n", "expected valid YAML"),
        ("[" * 3000, "expected valid YAML"),
        ("x" * 300_000, "expected a config of at most"),
    ],
    ids=["broken", "twice", "a list", "an object", "deep", "large"],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        load(RunConfig, path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.yaml: expected a YAML file, found none"):
        load(RunConfig, tmp_path / "nowhere.yaml")


def configs(kind=Config):
    for found in kind.__subclasses__():
        yield found
        yield from configs(found)


def test_every_knob_has_a_sentence():
    for kind in configs():
        for name, field in kind.model_fields.items():
            nested = isinstance(field.default, Config) and kind in (RunConfig, Serving)
            assert nested or (field.description or "").endswith("."), f"{kind.__name__}.{name}"


def test_roles_that_take_turns_share_seats_and_those_that_do_not_have_their_own(tiny):
    roles = ["cluster={samplers: 4, scorers: 2, learners: 2, threads_each: 1}"]
    assert load(RunConfig, tiny, [*roles, "ppo.lead=0"]).seats == 4
    ahead = load(RunConfig, tiny, [*roles, "ppo.lead=1"])
    assert (ahead.seats, ahead.first_learning_seat) == (6, 4)


def test_what_trains_alone_may_take_more_threads_than_a_seat(tiny):
    ahead = load(RunConfig, tiny, ["ppo.lead=1", "cluster={threads_each: 1, fit_threads: 2}"])
    assert (ahead.cluster.fitting_threads, ahead.threads) == (2, 1)
