"""A prompt is on one side with all that was said of it, and stays there when others come."""

from hypothesis import given
from hypothesis import strategies as st

from rlhf_ray.feedback.split import choose_heldout, split

PROMPTS = [f"prompt {number}" for number in range(2000)]


@given(st.lists(st.text(max_size=3), max_size=30), st.floats(0.01, 0.99), st.integers(0, 9))
def test_no_row_is_lost_and_no_prompt_is_on_both_sides(prompts, share, seed):
    rows = [{"prompt": prompt, "number": number} for number, prompt in enumerate(prompts)]
    train, heldout = split(rows, choose_heldout(prompts, share, seed))
    assert sorted(row["number"] for row in train + heldout) == list(range(len(rows)))
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in heldout}


@given(st.sets(st.sampled_from(PROMPTS), min_size=2), st.floats(0.01, 0.99), st.integers(0, 9))
def test_both_sides_have_prompts_however_few_there_are(prompts, share, seed):
    assert 0 < len(choose_heldout(prompts, share, seed)) < len(prompts)


def test_the_share_is_kept_and_the_seed_decides_which():
    first, again, other = (choose_heldout(PROMPTS, 0.2, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert 0.17 < len(first) / len(PROMPTS) < 0.23


def test_prompts_that_come_later_move_no_prompt_to_the_other_side():
    few, many = choose_heldout(PROMPTS[:500], 0.2, 0), choose_heldout(PROMPTS, 0.2, 0)
    assert few == many & set(PROMPTS[:500])


def test_near_copies_are_on_the_same_side():
    copies = [f" {prompt.upper()}\n" for prompt in PROMPTS]
    heldout = choose_heldout(PROMPTS + copies, 0.2, 0)
    assert all((prompt in heldout) == (copy in heldout) for prompt, copy in zip(PROMPTS, copies, strict=True))


def test_a_single_prompt_is_learned_from():
    assert choose_heldout(["a"], 0.9, 0) == choose_heldout([], 0.9, 0) == set()
