"""The stages `world` and `thumbs` with data of one's own, as the command line calls them; and the demo beside them."""

import json
import sys

import pytest
import yaml

from rlhf_ray.config import load
from rlhf_ray.data.tables import read_table
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run
from rlhf_ray.summary import conclude

from jobs import check_reward, collect_thumbs, evaluate, synthesize, train_ppo, train_reward, train_sft
from jobs.door import perform
from jobs.ending import USER_MISTAKE

STAGES = (synthesize.STAGE, train_sft.STAGE, collect_thumbs.STAGE)


@pytest.fixture
def feedback(tmp_path):
    """A file of thumbs, pairs and one row that is none."""
    rows = [{"prompt": f"Why {i}?", "completion": f"A leak {i}.", "label": i % 3 == 0} for i in range(30)]
    rows += [{"prompt": f"Why {i}?", "chosen": "A leak.", "rejected": "Dunno."} for i in range(30)]
    path = tmp_path / "feedback.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": ""}]), encoding="utf-8")
    return path


@pytest.fixture
def call(tmp_path, model_folder, feedback, monkeypatch, capsys):
    """Performs the stages on own data with a tiny random model in this process; gives exit code and what was said."""

    def call(*stages, **more):
        values = {
            "folder": str(tmp_path / "run"),
            "base": str(model_folder),
            "cluster": "none",
            "data": {"feedback": [str(feedback)]},
            "collection": {"samples": 8, "statements": 20, "heldout": 4},
            "world": {"corpus": 10, "train_prompts": 10, "heldout_prompts": 4, "heldout_wordings": 2},
            "sampling": {"prompt_tokens": 300, "response_tokens": 4},
            "reward": {"most_tokens": 500},
        } | more
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["jobs/x.py", str(tmp_path / "run.yaml")])
        with pytest.raises(SystemExit) as ended:
            perform(stages)
        return ended.value.code, capsys.readouterr().err

    return call


def test_own_data_becomes_the_tables_that_the_stages_read(call, tmp_path):
    code, said = call(*STAGES)
    assert code == 0, said
    assert "rows rejected" in said
    thumbs = tmp_path / "run" / "seed-0" / "thumbs"
    given = read_table(thumbs / "thumbs.parquet", ("prompt", "completion", "label"))
    measured = read_table(thumbs / "heldout.parquet", ("prompt", "completion", "label", "kind"))
    assert len(given) + len(measured) == 30
    sides = ("prompt", "chosen", "rejected", "margin")
    pairs = [read_table(thumbs / f"{name}.parquet", sides) for name in ("pairs", "heldout_pairs")]
    assert sum(map(len, pairs)) == 30
    samples = read_table(thumbs / "samples.parquet", ("prompt", "completion", "ended"))
    assert len(samples) == 8
    assert {row["prompt"] for row in samples} <= {row["prompt"] for row in given}
    assert len(read_table(thumbs / "rejected.parquet", ("reason",))) == 1
    assert json.loads((thumbs / "data_report.json").read_text(encoding="utf-8"))["rejected"]["rows"] == 1


def test_a_stage_is_done_again_when_the_file_changed_and_not_otherwise(call, feedback):
    call(synthesize.STAGE)
    assert "world: unchanged, skipped" in call(synthesize.STAGE)[1]
    with open(feedback, "a", encoding="utf-8") as file:
        file.write('{"prompt": "Why?", "completion": "A mouse.", "label": false}\n')
    assert "skipped" not in call(synthesize.STAGE)[1]


def test_a_missing_file_is_one_line_before_anything_is_done(call, tmp_path):
    code, said = call(synthesize.STAGE, data={"feedback": ["nowhere.csv"]})
    assert code == USER_MISTAKE
    assert "error: nowhere.csv: expected a file, found none" in said
    assert not (tmp_path / "run" / "seed-0" / "world").exists()


def test_an_unknown_key_of_the_data_is_named(call):
    code, said = call(synthesize.STAGE, data={"feedback": ["a.csv"], "promts": "b.csv"})
    assert code == USER_MISTAKE
    assert "data.promts: unknown key, did you mean 'prompts'?" in said


def test_sft_wants_something_that_was_liked(call, tmp_path):
    path = tmp_path / "disliked.jsonl"
    rows = [{"prompt": f"Why {i}?", "completion": "Dunno.", "label": False} for i in range(9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, said = call(synthesize.STAGE, data={"feedback": [str(path)]}, sft={"epochs": 1, "most_tokens": 400})
    assert code == USER_MISTAKE
    assert "expected something that was liked or chosen for sft to learn, got nothing" in said


def test_the_demo_has_a_data_report_too(call, tmp_path):
    code, said = call(*STAGES, data="demo")
    assert code == 0, said
    thumbs = tmp_path / "run" / "seed-0" / "thumbs"
    report = json.loads((thumbs / "data_report.json").read_text(encoding="utf-8"))
    assert report["leakage"] == {"prompts": 0, "near_copies": 0}
    assert (thumbs / "data_report.md").is_file()
    assert not (thumbs / "rejected.parquet").exists()


def test_a_whole_run_on_own_data_ends_with_a_report_that_nobody_judged(call, tmp_path):
    after = (train_reward.STAGE, train_ppo.STAGE, evaluate.STAGE)
    small = {
        "ppo": {"steps": 2, "episodes": 8},
        "learning": {"minibatch": 4},
        "reward": {"most_tokens": 500, "epochs": 1},
    }
    code, said = call(*STAGES, *after, **small, tripwires={"kl": "off", "entropy": "off"})
    assert code == 0, said
    run = tmp_path / "run" / "seed-0"
    results = json.loads((run / "report" / "results.json").read_text(encoding="utf-8"))
    assert results["judged"] is False
    assert set(results["difference"]) == {"score"}
    assert results["prompts"] == len(read_table(run / "world" / "heldout.parquet", ("prompt",)))
    metrics = json.loads((run / "ppo" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert "objective/rubric" not in metrics
    assert "Nobody judged the answers" in (run / "report" / "index.html").read_text(encoding="utf-8")
    conclude(Run(load(RunConfig, tmp_path / "run.yaml")))
    assert "Nobody judged" in (run / "ppo" / "policy" / "README.md").read_text(encoding="utf-8")
    code, said = call(check_reward.STAGE, **small)
    assert code == USER_MISTAKE
    assert "data: expected demo, whose rubric can judge" in said
