"""The plan for large models: its sizes are those of models that exist, and the document says what it computes."""

from dataclasses import replace
from pathlib import Path

import pytest
from scale_plan import H100, JOB, MODELS, fewest_learners, iteration, memory, seconds, tables

ROOT = Path(__file__).parents[2]


def test_the_document_has_the_tables_of_the_plan():
    document = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for table in tables():
        assert table in document, "run python benchmarks/scale_plan.py and put its tables into docs/scale.md"


@pytest.mark.parametrize(("name", "parameters"), [("1B", 1_235_814_400), ("8B", 8_030_261_248)])
def test_the_models_have_the_parameters_of_those_they_are_shaped_like(name, parameters):
    assert MODELS[name].parameters == parameters


def test_a_learner_holds_sixteen_bytes_a_parameter_of_two_models():
    model = MODELS["8B"]
    parts = memory(model, JOB, learners=1)["learner"]
    assert sum(parts[kind] for kind in ("weights", "gradients", "AdamW")) == 2 * 16 * model.parameters


@pytest.mark.parametrize("apart", [False, True])
def test_the_fewest_learners_fit_and_one_less_does_not(apart):
    model = MODELS["8B"]

    def need(learners: int) -> float:
        roles = memory(model, JOB, learners)
        return sum(sum(parts.values()) for role, parts in roles.items() if role == "learner" or not apart)

    fewest = fewest_learners(model, JOB, H100, apart=apart)
    assert need(fewest) <= H100.memory < need(fewest - 1)


def test_a_model_that_fits_nowhere_is_said():
    with pytest.raises(ValueError, match="no number of learners fits 1 GB"):
        fewest_learners(MODELS["8B"], JOB, replace(H100, memory=1e9), apart=True)


def test_twice_as_many_of_all_take_as_long_and_do_twice_the_work():
    model = MODELS["1B"]
    assert seconds(model, JOB, H100, 4, 4) == seconds(model, JOB, H100, 8, 8)


def test_a_lead_takes_no_longer_and_at_most_halves():
    spent = seconds(MODELS["1B"], JOB, H100, 4, 4)
    assert iteration(spent, lead=0) / 2 <= iteration(spent, lead=1) <= iteration(spent, lead=0)
