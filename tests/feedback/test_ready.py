"""Own data on two sides, in the tables that the stages read."""

import pyarrow.parquet as pq
import pytest

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import read_table
from rlhf_ray.feedback.data import Data
from rlhf_ray.feedback.ready import prepare

LIMITS = {"most_tokens": 224, "prompt_tokens": 80, "seed": 0}


def thumbs(count, **more):
    return [{"prompt": f"Why {i}?", "completion": f"A leak {i}.", "label": i % 2 == 0} | more for i in range(count)]


def pairs(count):
    return [{"prompt": f"Why {i}?", "chosen": f"Best {i}.", "rejected": "Dunno."} for i in range(count)]


def names(rows):
    return {row["prompt"] for row in rows}


def test_thumbs_and_pairs_of_a_prompt_are_on_the_same_side(write, plain_tokenizer):
    data = Data(feedback=[write(thumbs(80), "a.jsonl"), write(pairs(80), "b.jsonl")], heldout=0.25)
    ready = prepare(data, plain_tokenizer, **LIMITS)
    assert names(ready.prompts) == names(ready.thumbs) == names(ready.pairs)
    assert names(ready.heldout_prompts) == names(ready.heldout) == names(ready.heldout_pairs)
    assert not names(ready.prompts) & names(ready.heldout_prompts)
    assert len(ready.prompts) + len(ready.heldout_prompts) == 80


def test_the_corpus_is_what_was_liked_or_chosen_to_learn_from(write, plain_tokenizer):
    data = Data(feedback=[write(thumbs(40), "a.jsonl"), write(pairs(40), "b.jsonl")])
    ready = prepare(data, plain_tokenizer, **LIMITS)
    liked = {row["completion"] for row in ready.thumbs if row["label"]} | {row["chosen"] for row in ready.pairs}
    assert {row["completion"] for row in ready.corpus} == liked


def test_ten_rows_have_two_sides(write, plain_tokenizer):
    ready = prepare(Data(feedback=[write(thumbs(10))]), plain_tokenizer, **LIMITS)
    assert len(ready.thumbs) + len(ready.heldout) == 10
    assert ready.thumbs and ready.heldout


def test_a_single_prompt_is_an_error(write, plain_tokenizer):
    rows = [{"prompt": "Why?", "completion": f"A leak {i}.", "label": True} for i in range(10)]
    with pytest.raises(BadInput, match="others to hold out, got 1 and 0"):
        prepare(Data(feedback=[write(rows)]), plain_tokenizer, **LIMITS)


def test_a_prompt_too_long_for_ppo_is_learned_from_and_counted(write, plain_tokenizer):
    long = {"prompt": "why " * 100, "completion": "A leak.", "label": True}
    ready = prepare(Data(feedback=[write([*thumbs(20), long])]), plain_tokenizer, **LIMITS)
    assert long["prompt"] in names(ready.thumbs + ready.heldout)
    assert long["prompt"] not in names(ready.prompts + ready.heldout_prompts)
    assert ready.unasked == 1


def test_prompts_may_come_from_a_file_of_their_own_and_never_stand_on_both_sides(write, plain_tokenizer):
    asked = [{"prompt": f"Why {i}?"} for i in range(40, 120)] + [{"prompt": ""}]
    data = Data(feedback=[write(thumbs(80))], prompts=write(asked, "prompts.csv"), heldout=0.3)
    ready = prepare(data, plain_tokenizer, **LIMITS)
    assert names(ready.prompts) | names(ready.heldout_prompts) == names(asked[:-1])
    assert not names(ready.prompts) & names(ready.heldout)
    assert not names(ready.heldout_prompts) & names(ready.thumbs)
    assert [row["row"] for row in ready.rejected] == [80]


def test_every_table_has_its_columns_also_without_rows(write, plain_tokenizer, tmp_path):
    ready = prepare(Data(feedback=[write(pairs(20))]), plain_tokenizer, **LIMITS)
    ready.write(tmp_path)
    said = tmp_path / "feedback"
    assert read_table(said / "thumbs.parquet", ("prompt", "completion", "label", "rater")) == []
    assert read_table(said / "heldout.parquet", ("prompt", "completion", "label", "kind")) == []
    assert read_table(said / "rejected.parquet", ("source", "row", "reason", "content")) == []
    assert len(read_table(said / "pairs.parquet", ("prompt", "chosen", "rejected", "margin"))) == len(ready.pairs)
    assert pq.read_schema(said / "pairs.parquet").field("rater").type == "string"


def test_a_table_that_nobody_filled_is_not_written_for_pairs(write, plain_tokenizer, tmp_path):
    prepare(Data(feedback=[write(thumbs(20))]), plain_tokenizer, **LIMITS).write(tmp_path)
    assert not list(tmp_path.rglob("*pairs.parquet"))
    assert {row["kind"] for row in read_table(tmp_path / "feedback" / "heldout.parquet", ("kind",))} == {"feedback"}
