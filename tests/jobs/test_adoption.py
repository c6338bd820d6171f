"""A run whose reward model is the best of a search: taken over as it is, measured as any other, refused where unfit."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rlhf_ray.config import load
from rlhf_ray.durable import digests
from rlhf_ray.models.loading import load_classifier, load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage
from rlhf_ray.training.reward import RewardTraining

from jobs import collect_thumbs, search_reward, synthesize, train_ppo, train_reward, train_sft
from jobs.door import Stages, perform
from jobs.ending import USER_MISTAKE

FIRST = (synthesize.STAGE, train_sft.STAGE, collect_thumbs.STAGE)


@pytest.fixture
def config(tmp_path: Path, model_folder: Path) -> Path:
    path = tmp_path / "run.yaml"
    values = {
        "folder": str(tmp_path / "run"),
        "base": str(model_folder),
        "cluster": "none",
        "world": {"corpus": 40, "train_prompts": 40, "heldout_prompts": 8, "heldout_wordings": 4},
        "collection": {"samples": 8, "statements": 24, "heldout": 8},
        "sampling": {"prompt_tokens": 300, "response_tokens": 4},
        "reward": "search:mine",
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture
def call(config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable:
    """Calls stages as the command line would; gives the exit code and what was said."""

    def call(stages: Stages, *overrides: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["jobs/x.py", str(config), *overrides])
        with pytest.raises(SystemExit) as ended:
            perform(stages)
        return int(str(ended.value.code)), capsys.readouterr().err

    return call


@pytest.fixture
def run(config: Path) -> Run:
    return Run(load(RunConfig, config))


@pytest.fixture
def searched(call: Callable, run: Run) -> Run:
    """The run's first stages, and what a search with three models that nobody trained would have left."""
    assert call(FIRST)[0] == 0
    leave_search(run)
    return run


def leave_search(run: Run, most_tokens: int = 600) -> None:
    def work(run: Run, folder: Path) -> None:
        sft = str(run.path("sft"))
        for number, name in enumerate(("best", "2", "3"), start=1):
            model = load_classifier(sft)
            model.config.score_mean, model.config.score_std = 0.0, float(number)
            model.config.pad_token_id = 0
            model.save_pretrained(folder / name)
            load_tokenizer(sft).save_pretrained(folder / name)
        training = RewardTraining(most_tokens=most_tokens).model_dump()
        models = [{"trial": f"00{number}", "objective": 0.5} for number in range(3)]
        result = {"best": {"training": training}, "models": models, "on": run.digests(("sft", "thumbs"))}
        (folder / "search.json").write_text(json.dumps(result), encoding="utf-8")

    run.perform(Stage("search-mine", ("sft", "thumbs"), (), work))


def assert_one_line(code: int, said: str, expected: str) -> None:
    assert code == USER_MISTAKE, said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in said


def test_the_best_model_is_the_runs_reward_model_with_the_others_as_members(call: Callable, searched: Run) -> None:
    assert call([train_reward.STAGE])[0] == 0
    reward, search = searched.path("reward"), searched.path("search-mine")
    found = digests(reward)
    assert json.loads((reward / "metrics.json").read_text(encoding="utf-8"))["rows"] == 16
    for place, name in ((reward, "best"), (reward / "members" / "2", "2"), (reward / "members" / "3", "3")):
        for file, expected in digests(search / name).items():
            assert found[str((place / file).relative_to(reward))] == expected
    assert "unchanged, skipped" in call([train_reward.STAGE])[1]


@pytest.mark.slow
def test_ppo_learns_from_an_ensemble_of_the_search(call: Callable, searched: Run) -> None:
    few = (
        "ppo={steps: 2, episodes: 4}",
        "learning={minibatch: 2}",
        "scoring.rewards.model={members: 3, pessimism: 0.5}",
    )
    code, said = call([train_reward.STAGE, train_ppo.STAGE], *few)
    assert code == 0, said
    assert searched.path("ppo", "policy", "model.safetensors").is_file()


def test_a_missing_search_names_the_job_before_anything_is_done(call: Callable, run: Run) -> None:
    code, said = call([*FIRST, train_reward.STAGE])
    assert_one_line(code, said, "run python -m jobs.search_reward CONFIG search.name=mine first")
    assert not run.folder.exists()


@pytest.mark.parametrize("stages", [[train_reward.STAGE], [train_reward.STAGE, train_ppo.STAGE]])
def test_more_members_than_the_search_kept_are_refused_at_the_door(call: Callable, searched: Run, stages: list) -> None:
    code, said = call(stages, "scoring.rewards.model.members=4")
    assert_one_line(code, said, "scoring.rewards.model.members: expected at most 3, the models that search-mine kept")
    assert not searched.path("reward").exists()


def test_members_without_a_search_are_refused(call: Callable) -> None:
    code, said = call(FIRST, "reward={most_tokens: 600}", "scoring.rewards.model.members=2")
    assert_one_line(code, said, "scoring.rewards.model.members: expected 1 without reward=search:NAME")


def test_a_search_on_other_thumbs_is_refused(call: Callable, searched: Run) -> None:
    assert call(FIRST, "collection.samples=12")[0] == 0
    code, said = call([train_reward.STAGE], "collection.samples=12")
    assert_one_line(code, said, "reward: expected a search on this run's sft and thumbs, got one on others")


def test_a_search_whose_models_read_too_little_is_refused(call: Callable, searched: Run) -> None:
    shutil.rmtree(searched.path("search-mine"))
    leave_search(searched, most_tokens=100)
    code, said = call([train_reward.STAGE])
    assert_one_line(code, said, "reward: expected a search with reward.most_tokens of at least 305")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "search: expected a search, such as that of configs/reward/search.yaml, got none"),
        (("search={}",), "cluster: expected a cluster, since a search runs on Ray, got none"),
        (("search={name: a/b}",), "search.name: "),
        (("reward=search:../x",), "reward: "),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_at_the_door(
    call: Callable, run: Run, overrides: tuple[str, ...], said: str
) -> None:
    assert_one_line(*call(search_reward.stages_of, *overrides), said)
    assert not run.folder.exists()


def test_where_and_how_many_trials_run_at_once_is_none_of_the_searchs_settings(config: Path, tmp_path: Path) -> None:
    def key(*overrides: str) -> dict[str, str]:
        chosen = load(RunConfig, config, ["cluster={}", "search={}", *overrides])
        return search_reward.stages_of(chosen)[-1].outside(chosen)

    assert key() == key("search.concurrent=7", "search.threads_each=3")
    assert key() != key("search.trials=17")
    assert key() != key("reward={most_tokens: 600, batch: 16}")
