"""Whatever people bring becomes thumbs and pairs, or is rejected with a reason; nothing gets lost on the way."""

import json
import math
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.intake import read_feedback, read_prompts

THUMBS = [
    {"prompt": "Why?", "completion": "The pool leaked.", "label": True},
    {"prompt": "Why?", "completion": "It works again.", "label": False},
]
NOBODY = {"rater": None, "created_at": None}


@pytest.fixture
def read(write, plain_tokenizer):
    """Reads records from a file of the given name."""

    def read(records, name="feedback.jsonl", tokenizer=plain_tokenizer, most_tokens=224):
        return read_feedback([write(records, name)], tokenizer, most_tokens)

    return read


def reasons(feedback):
    return [row["reason"] for row in feedback.rejected]


def without_origin(rows):
    return [{name: value for name, value in row.items() if name not in NOBODY} for row in rows]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet"])
def test_thumbs_are_read_from_every_kind_of_file(read, name):
    feedback = read(THUMBS, name)
    assert feedback.thumbs == [row | NOBODY for row in THUMBS]
    assert feedback.pairs == feedback.rejected == []


def test_a_dataset_is_read_from_a_folder_as_from_the_hub(write, plain_tokenizer, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    for split, row in zip(("train", "test"), THUMBS, strict=True):
        (folder / f"{split}.jsonl").write_text(json.dumps(row), encoding="utf-8")
    for source, row in ((f"hub:{folder}", THUMBS[0]), (f"hub:{folder}@test", THUMBS[1])):
        assert read_feedback([source], plain_tokenizer, 224).thumbs == [row | NOBODY]
    with pytest.raises(BadInput, match=r"hub:.*@dev: expected a dataset that loads"):
        read_feedback([f"hub:{folder}@dev"], plain_tokenizer, 224)


@pytest.mark.parametrize(
    ("label", "up"),
    [
        *((True, True), (1, True), (1.0, True), ("true", True), ("up", True), ("Thumbs-Up", True), ("👍️", True)),
        *(
            (False, False),
            (0, False),
            (-1, False),
            ("FALSE", False),
            ("thumbs_down", False),
            ("-1", False),
            ("👎🏽", False),
        ),
    ],
)
def test_a_thumb_may_be_said_in_many_ways(read, label, up):
    assert [row["label"] for row in read([THUMBS[0] | {"label": label}]).thumbs] == [up]


@pytest.mark.parametrize("label", [None, 2, 0.5, "maybe", "", [True], float("nan")])
def test_a_label_that_is_none_is_rejected(read, label):
    feedback = read([*THUMBS, THUMBS[0] | {"label": label}])
    assert len(feedback.thumbs) == 2
    assert "label: expected a thumb up or down, got" in reasons(feedback)[0]


def test_pairs_have_a_margin_where_one_is_given(read):
    pair = {"prompt": "Why?", "chosen": "A leak.", "rejected": "Dunno."}
    feedback = read([pair | {"margin": 2}, pair | {"chosen": "Two leaks."}])
    assert without_origin(feedback.pairs) == [pair | {"margin": 2.0}, pair | {"chosen": "Two leaks.", "margin": 0.0}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rejected": "A leak."}, "chosen, rejected: expected two completions, got the same one twice"),
        ({"margin": -1}, "margin: expected a number of at least 0, got -1"),
        ({"margin": "much"}, "margin: expected a number of at least 0, got 'much'"),
        ({"chosen": 3}, "chosen: expected a text, got 3"),
    ],
)
def test_a_pair_that_is_none_is_rejected(read, change, said):
    pair = {"prompt": "Why?", "chosen": "A leak.", "rejected": "Dunno."}
    assert reasons(read([pair, pair | change])) == [said]


def test_ratings_are_thumbs_and_pairs_of_the_same_prompt(read):
    stars = {"best": 5, "good": 4, "middling": 3, "bad": 1}
    feedback = read([{"prompt": "Why?", "completion": said, "rating": rated} for said, rated in stars.items()])
    assert {row["completion"]: row["label"] for row in feedback.thumbs} == {"best": True, "good": True, "bad": False}
    assert {(row["chosen"], row["rejected"]): row["margin"] for row in feedback.pairs} == {
        ("best", "good"): 1,
        ("best", "middling"): 2,
        ("best", "bad"): 4,
        ("good", "middling"): 1,
        ("good", "bad"): 3,
        ("middling", "bad"): 2,
    }
    assert not feedback.rejected


def test_the_ratings_of_several_people_are_averaged_before_they_are_held_against_others(read):
    rows = [{"prompt": "Why?", "completion": said, "rating": rated, "rater": rater}
            for said, rated, rater in (("one", 5, "a"), ("one", 3, "b"), ("other", 2, "a"))]  # fmt: skip
    (pair,) = read(rows).pairs
    assert (pair["chosen"], pair["margin"], pair["rater"]) == ("one", 2.0, None)


def test_a_middling_rating_without_another_of_its_prompt_says_nothing(read):
    alone = {"prompt": "When?", "completion": "At noon.", "rating": "3"}
    feedback = read([alone, {"prompt": "Why?", "completion": "A leak.", "rating": "5"}], "a.csv")
    assert len(feedback.thumbs) == 1
    assert feedback.rejected[0]["row"] == 0
    assert "another rating of the same prompt" in reasons(feedback)[0]


def test_very_many_ratings_of_one_prompt_do_not_become_very_many_pairs(read):
    rows = [{"prompt": "Why?", "completion": f"answer {i}", "rating": 1 + i % 5} for i in range(400)]
    assert 100 < len(read(rows).pairs) <= 200


@pytest.mark.parametrize("stars", [0, 6, "many", None, True, float("inf")])
def test_a_rating_beyond_the_scale_is_rejected(read, stars):
    feedback = read([*THUMBS, {"prompt": "Why?", "completion": "x", "rating": stars}])
    assert "rating: expected a number from 1 to 5" in reasons(feedback)[0]


def test_a_dialogue_is_split_behind_the_last_turn_that_both_share_and_its_text_is_unchanged(read):
    shared = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Why is it down?\n\nAssistant:"
    chosen, rejected = " A leak in the pool.", " A cow ate it.\n\nHuman: What?\n\nAssistant: Yes."
    feedback = read([{"chosen": shared + chosen, "rejected": shared + rejected}])
    assert without_origin(feedback.pairs) == [{"prompt": shared, "chosen": chosen, "rejected": rejected, "margin": 0.0}]


def test_dialogues_that_share_no_turn_are_rejected(read):
    shared = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    feedback = read([shared, shared | {"rejected": "\n\nHuman: other\n\nAssistant: c"}])
    assert len(feedback.pairs) == 1
    assert "dialogues that both hold the same" in reasons(feedback)[0]


ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]


def answer(content):
    return [{"role": "assistant", "content": content}]


def test_conversations_are_kept_as_their_messages(read, chat_tokenizer):
    text = json.dumps(ASKED)
    thumb = {"prompt": ASKED, "completion": answer("A leak."), "label": True}
    feedback = read([thumb], tokenizer=chat_tokenizer)
    assert without_origin(feedback.thumbs) == [{"prompt": text, "completion": "A leak.", "label": True}]
    for pair in (
        {"prompt": ASKED, "chosen": answer("A leak."), "rejected": answer("Dunno.")},
        {"chosen": ASKED + answer("A leak."), "rejected": ASKED + answer("Dunno.")},
        {"prompt": "Why?", "chosen": ASKED + answer("A leak."), "rejected": ASKED + answer("Dunno.")},
    ):
        feedback = read([pair], "a.parquet", tokenizer=chat_tokenizer)
        assert without_origin(feedback.pairs) == [
            {"prompt": text, "chosen": "A leak.", "rejected": "Dunno.", "margin": 0.0}
        ]


def test_dialogues_become_messages_where_there_is_a_chat_template(read, chat_tokenizer):
    shared = "\n\nHuman: Hi\n\nAssistant: Hello!\n\nHuman: Why is it down?\n\nAssistant:"
    row = {"chosen": shared + " A leak in the pool.", "rejected": shared + " A cow ate it."}
    (pair,) = read([row], tokenizer=chat_tokenizer).pairs
    assert [message["content"] for message in json.loads(pair["prompt"])] == ["Hi", "Hello!", "Why is it down?"]
    assert (pair["chosen"], pair["rejected"]) == ("A leak in the pool.", "A cow ate it.")


def test_conversations_without_a_chat_template_are_one_clear_error(read):
    with pytest.raises(BadInput, match="row 0: expected plain texts, since the base's tokenizer has no chat template"):
        read([{"prompt": ASKED, "completion": answer("A leak."), "label": True}])


@pytest.mark.parametrize(
    "change",
    [
        {"completion": ASKED},
        {"completion": [*answer("a"), *ASKED, *answer("b")]},
        {"prompt": [{"role": "user"}]},
        {"prompt": ["Why?"]},
        {"prompt": []},
    ],
)
def test_conversations_that_are_none_are_rejected(read, chat_tokenizer, change):
    thumb = {"prompt": ASKED, "completion": answer("A leak."), "label": True}
    feedback = read([thumb, thumb | change], tokenizer=chat_tokenizer)
    assert len(feedback.thumbs) == len(feedback.rejected) == 1


def open_webui(rating, *said, user="u-1", rated=None):
    """A feedback in an export of open-webui; the messages answer each other in turn, and the last one is rated."""
    messages = {
        f"m{i}": {"id": f"m{i}", "parentId": f"m{i - 1}" if i else None, "role": ("user", "assistant")[i % 2]}
        | {"content": text, "childrenIds": []}
        for i, text in enumerate(said)
    }
    rated = rated or f"m{len(said) - 1}"
    chat = {"title": "New chat", "models": ["tiny"], "history": {"messages": messages, "currentId": rated}}
    return {
        "id": "f-1",
        "user_id": user,
        "version": 0,
        "type": "rating",
        "data": {"rating": rating, "model_id": "tiny", "reason": "", "comment": "", "sibling_model_ids": None},
        "meta": {"model_id": "tiny", "message_id": rated, "message_index": len(said), "chat_id": "c-1"},
        "snapshot": {"chat": {"id": "c-1", "user_id": user, "title": "New chat", "chat": chat}},
        "created_at": 1735689600,
        "updated_at": 1735689600,
    }


def test_an_export_of_open_webui_is_read_as_it_is(read, chat_tokenizer):
    records = [open_webui(1, "Why?", "A leak."), open_webui(-1, "Hi", "Hello!", "Why?", "Dunno.", user="u-2")]
    feedback = read(records, "feedbacks.json", tokenizer=chat_tokenizer)
    said = [
        {"role": role, "content": content}
        for role, content in (("user", "Hi"), ("assistant", "Hello!"), ("user", "Why?"))
    ]
    assert feedback.thumbs == [
        {"prompt": "Why?", "completion": "A leak.", "label": True}
        | {"rater": "u-1", "created_at": "2025-01-01T00:00:00+00:00"},
        {"prompt": json.dumps(said), "completion": "Dunno.", "label": False}
        | {"rater": "u-2", "created_at": "2025-01-01T00:00:00+00:00"},
    ]


def test_without_a_chat_template_a_single_question_of_open_webui_is_its_text(read):
    records = [open_webui("1", "Why?", "A leak."), open_webui(-1, "Hi", "Hello!", "Why?", "Dunno.")]
    feedback = read(records, "feedbacks.json")
    assert [row["prompt"] for row in feedback.thumbs] == ["Why?"]
    assert reasons(feedback) == ["prompt: expected one message, since the base's tokenizer has no chat template, got 3"]


def test_a_feedback_of_open_webui_whose_message_is_gone_or_whose_thread_bites_its_tail_is_rejected(read):
    circle = open_webui(1, "Why?", "A leak.")
    circle["snapshot"]["chat"]["chat"]["history"]["messages"]["m0"]["parentId"] = "m1"
    lost = open_webui(1, "Why?", "A leak.", rated="m9")
    feedback = read([open_webui(1, "Why?", "A leak."), lost, open_webui(None, "Why?", "A leak.")], "a.json")
    assert len(feedback.thumbs) == 1
    assert [reason.split(":")[0] for reason in reasons(feedback)] == ["meta.message_id", "label"]
    assert read([circle], "a.json").thumbs[0]["prompt"] == "Why?"


@pytest.mark.parametrize("broken", [["m1"], {"m1": 1}], ids=["a list", "keys and values"])
def test_an_id_of_open_webui_that_is_none_spoils_its_row_and_not_the_file(read, broken):
    lost, orphan, listed = (open_webui(1, "Why?", "A leak.") for _ in range(3))
    lost["meta"]["message_id"] = broken
    orphan["snapshot"]["chat"]["chat"]["history"]["messages"]["m1"]["parentId"] = broken
    history = listed["snapshot"]["chat"]["chat"]["history"]
    history["messages"] = [*history["messages"].values(), {"id": broken}]
    feedback = read([listed, lost, orphan], "a.json")
    assert [row["completion"] for row in feedback.thumbs] == ["A leak."]
    assert [reason.split(":")[0] for reason in reasons(feedback)] == ["meta.message_id", "prompt"]


@pytest.mark.parametrize("content", [None, [{"type": "text", "text": "A leak."}]])
def test_an_answer_of_open_webui_that_is_no_text_spoils_its_row_and_not_the_file(read, content):
    feedback = read([open_webui(1, "Why?", "A leak."), open_webui(1, "When?", content)], "a.json")
    assert len(feedback.thumbs) == 1
    assert [reason.split(", got")[0] for reason in reasons(feedback)] == ["completion: expected a text"]


def test_a_dataset_with_a_script_in_it_is_one_error_that_names_it(plain_tokenizer, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "old.py").write_text("raise SystemExit\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"old: expected a dataset that loads, got: .*scripts"):
        read_feedback([f"hub:{tmp_path / 'old'}"], plain_tokenizer, 224)


def label_studio(data, *results, completed_by=7, **more):
    """A task in an export of Label Studio, one annotation a result."""
    annotations = [
        {"id": number, "completed_by": completed_by, "created_at": "2025-01-01T10:00:00Z", "was_cancelled": False}
        | {"result": [{"from_name": "x", "to_name": "y"} | result]}
        | more
        for number, result in enumerate(results)
    ]
    return {"id": 1, "data": data, "annotations": annotations, "predictions": []}


SHOWN = {"prompt": "Why?", "completion": "A leak."}
DUEL = {"prompt": "Why?", "answer1": "A leak.", "answer2": "Dunno."}


def choice(word):
    return {"type": "choices", "value": {"choices": [word]}}


def test_an_export_of_label_studio_is_read_as_it_is(read):
    records = [
        label_studio(SHOWN, choice("👍"), choice("Thumbs down"), completed_by={"id": 3, "email": "a@example.org"}),
        label_studio({"prompt": "When?", "response": "At noon."}, {"type": "rating", "value": {"rating": 4}}),
        label_studio(DUEL, {"type": "pairwise", "value": {"selected": "right"}, "to_name": "answer1,answer2"}),
    ]
    feedback = read(records, "export.json")
    assert [(row["completion"], row["label"], row["rater"]) for row in feedback.thumbs] == [
        ("A leak.", True, "a@example.org"),
        ("A leak.", False, "a@example.org"),
        ("At noon.", True, "7"),
    ]
    assert [(row["chosen"], row["rejected"]) for row in feedback.pairs] == [("Dunno.", "A leak.")]


def test_the_sides_of_a_pair_in_label_studio_are_those_that_the_tag_names(read):
    data = {"prompt": "Why?", "b": "Shown left.", "a": "Shown right."}
    result = {"type": "pairwise", "value": {"selected": "left"}, "to_name": ["b", "a"]}
    assert read([label_studio(data, result)], "export.json").pairs[0]["chosen"] == "Shown left."


@pytest.mark.parametrize(
    "task",
    [
        label_studio(SHOWN),
        label_studio(SHOWN, choice("👍"), was_cancelled=True),
        label_studio(SHOWN, choice("Something else")),
        label_studio(SHOWN, {"type": "textarea", "value": {"text": ["hm"]}}),
        label_studio(SHOWN, {"type": "pairwise", "value": {"selected": "left"}}),
        label_studio(DUEL, {"type": "pairwise", "value": {"selected": None}}),
        label_studio(SHOWN, {"type": "choices", "value": {"choices": ["👍", "👎"]}}),
        label_studio(SHOWN) | {"annotations": [{"result": 5}]},
        label_studio(SHOWN, {"type": "pairwise", "value": {"selected": "left"}, "to_name": 5}),
    ],
    ids=[
        *("not annotated", "skipped", "another choice", "text alone", "one answer", "none selected"),
        *("two choices", "a result that is none", "a tag that is none"),
    ],
)
def test_a_task_of_label_studio_that_says_nothing_is_rejected(read, task):
    feedback = read([label_studio(SHOWN, choice("👍")), task], "export.json")
    assert len(feedback.thumbs) == len(feedback.rejected) == 1


def test_a_cell_that_pandas_left_empty_is_empty(read):
    empty = {"label": math.nan, "completion": math.nan}
    pair = {"prompt": "Why?", "chosen": "A leak.", "rejected": "Dunno."}
    none = dict.fromkeys(["chosen", "rejected", "rating"], math.nan)
    feedback = read([none | THUMBS[0] | {"rater": math.nan}, empty | pair])
    assert feedback.rejected == []
    assert [row["rater"] for row in feedback.thumbs] == [None]
    assert [row["chosen"] for row in feedback.pairs] == ["A leak."]


@pytest.mark.parametrize("column", ["rater", "user", "annotator", "completed_by"])
def test_who_said_it_and_when_are_kept(read, column):
    feedback = read([THUMBS[0] | {column: 12, "created_at": "2025-01-01"}])
    assert feedback.thumbs == [THUMBS[0] | {"rater": "12", "created_at": "2025-01-01"}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": ""}, "prompt: expected a text, got an empty one"),
        ({"prompt": " \n"}, "prompt: expected a text, got an empty one"),
        ({"prompt": None}, "prompt: expected a text, got nothing"),
        ({"prompt": 5}, "prompt: expected a text, got 5"),
        ({"completion": None}, "completion: expected a text, got nothing"),
        ({"completion": "a\0b"}, "completion: expected a text without NUL characters"),
        ({"prompt": "\ud800"}, "prompt: expected whole characters"),
        ({"completion": "word " * 300}, "completion: expected at most 224 tokens with its prompt, got "),
    ],
)
def test_a_row_with_a_text_that_is_none_is_rejected(read, change, said):
    feedback = read([*THUMBS, THUMBS[0] | change])
    assert len(feedback.thumbs) == 2
    assert said in reasons(feedback)[0]
    assert feedback.rejected[0]["row"] == 2


def test_a_completion_may_be_empty(read):
    assert len(read([THUMBS[0] | {"completion": ""}, THUMBS[1]]).thumbs) == 2


def test_what_is_no_row_is_rejected_and_the_rows_around_it_are_kept(write, plain_tokenizer, tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(THUMBS[0]), "{half", "", "3", "[" * 100_000, json.dumps({"a": 1}), json.dumps(THUMBS[1])]
    path.write_bytes("\n".join(lines).encode() + b'\n{"prompt": "\xff", "completion": "x", "label": true}\n')
    feedback = read_feedback([str(path)], plain_tokenizer, 224)
    assert len(feedback.thumbs) == 2
    assert [row["row"] for row in feedback.rejected] == [1, 2, 3, 4, 6]


def test_five_megabytes_are_rejected_at_once_and_kept_out_of_the_table(read):
    begun = time.monotonic()
    feedback = read([*THUMBS, {"prompt": "Why?", "completion": "why " * 1_250_000, "label": True}])
    assert time.monotonic() - begun < 2
    assert reasons(feedback) == ["completion: expected at most 224 tokens with its prompt, got 5000004 characters"]
    assert len(feedback.rejected[0]["content"]) <= 4096


def test_emoji_and_text_from_right_to_left_come_through_unchanged(read):
    rows = [{"prompt": "למה? 🤔", "completion": "تسرّب في المجمّع 👨‍👩‍👧", "label": True}]
    for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
        assert without_origin(read(rows, name).thumbs) == rows


def test_what_the_same_person_said_twice_counts_once_and_what_others_say_counts(read):
    rows = [THUMBS[0] | {"rater": rater} for rater in ("a", "a", "b")]
    feedback = read(rows)
    assert [row["rater"] for row in feedback.thumbs] == ["a", "b"]
    assert reasons(feedback) == ["duplicate of row 0"]


def test_duplicates_are_found_across_files(write, plain_tokenizer):
    sources = [write(THUMBS, "a.jsonl"), write(THUMBS, "b.csv")]
    feedback = read_feedback(sources, plain_tokenizer, 224)
    assert len(feedback.thumbs) == 2
    assert reasons(feedback) == [f"duplicate of row {row} in {sources[0]}" for row in (0, 1)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"PAR1 not", "a.parquet: expected Parquet, got a file that cannot be read"),
        ("a.json", b'[{"prompt": ', "a.json: expected a JSON list of rows, got a file that cannot be read"),
        ("a.json", b'{"prompt": "x"}', "a.json: expected a JSON list of rows"),
        ("a.csv", b'prompt,completion,label\n"half', "a.csv: expected comma-separated values"),
        ("a.csv", b"prompt,prompt,label\na,b,1\n", "a column stands in it twice"),
        ("a.csv", b"text,class\nx,1\n", "expected the columns prompt, completion, label .*got text, class"),
        ("a.jsonl", b"", r"got no usable row \(there are none\)"),
        ("a.jsonl", b'{"prompt": "", "completion": "x", "label": 1}\n', "got no usable row .*got an empty one"),
        ("a.txt", b"x", "a.txt: expected a file that ends in .parquet, .jsonl, .json, .csv, the folder of a ledger or"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error_that_names_it(plain_tokenizer, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=said) as caught:
        read_feedback([str(tmp_path / name)], plain_tokenizer, 224)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(plain_tokenizer):
    with pytest.raises(BadInput, match=r"nowhere.csv: expected a file, found none"):
        read_feedback(["nowhere.csv"], plain_tokenizer, 224)


def test_prompts_are_read_each_once(write, plain_tokenizer):
    source = write([{"prompt": "a"}, {"prompt": "b", "more": 1}, {"prompt": "a"}, {"prompt": "x " * 99}, {"p": 1}])
    prompts, rejected = read_prompts(source, plain_tokenizer, 20)
    assert prompts == ["a", "b"]
    assert sorted(row["row"] for row in rejected) == [2, 3, 4]


ANYTHING = st.none() | st.booleans() | st.integers(-2, 6) | st.floats() | st.text(max_size=8) | st.just([])
TEXTS = st.sampled_from(["a", "b", "Why?", "", " ", "a\0", None, 3, "é"]) | st.text(max_size=4)


@given(
    st.lists(
        st.fixed_dictionaries({"prompt": TEXTS, "completion": TEXTS, "label": ANYTHING}, optional={"rater": TEXTS})
        | st.fixed_dictionaries({"prompt": TEXTS, "chosen": TEXTS, "rejected": TEXTS}, optional={"margin": ANYTHING})
        | ANYTHING,
        max_size=12,
    )
)
@examples(max_examples=150)
def test_every_row_is_used_or_rejected(plain_tokenizer, records):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_text("".join(json.dumps(record) + "\n" for record in [*THUMBS, *records]), encoding="utf-8")
        feedback = read_feedback([str(path)], plain_tokenizer, 224)
    assert len(feedback.thumbs) + len(feedback.pairs) + len(feedback.rejected) == len(THUMBS) + len(records)
    assert all(row["reason"] for row in feedback.rejected)
    for row in [*feedback.thumbs, *feedback.pairs]:
        assert row["prompt"].strip() and "\0" not in "".join(map(str, row.values()))


@given(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("abcd"), st.integers(0, 6)), max_size=12))
@examples(max_examples=80)
def test_every_rating_is_a_thumb_or_in_a_pair_or_rejected(plain_tokenizer, said):
    rows = [{"prompt": p, "completion": c, "rating": r, "rater": str(i)} for i, (p, c, r) in enumerate(said)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in [*THUMBS, *rows]), encoding="utf-8")
        feedback = read_feedback([str(path)], plain_tokenizer, 224)
    rejected = {row["row"] - len(THUMBS) for row in feedback.rejected}
    thumbs = {row["rater"] for row in feedback.thumbs}
    paired = {(row["prompt"], row[side]) for row in feedback.pairs for side in ("chosen", "rejected")}
    for number, row in enumerate(rows):
        is_used = row["rater"] in thumbs or (row["prompt"], row["completion"]) in paired
        assert (number in rejected) == (not 1 <= row["rating"] <= 5 or not is_used)
