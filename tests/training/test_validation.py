"""What a search holds back: whole prompts, the same ones every time, and enough to measure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.lessons import Lessons
from rlhf_ray.feedback.split import plain
from rlhf_ray.training.validation import Validated, split

ALL = Validated(share=0.25, thumbs=10**6, pairs=10**6, probes=10**6)


def lessons(prompts: int, each: int = 2) -> Lessons:
    thumbs = [
        {"prompt": f"p{n}", "completion": f"c{k}", "label": bool(k % 2)} for n in range(prompts) for k in range(each)
    ]
    pairs = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b", "margin": 0.0} for n in range(0, prompts, 3)]
    return Lessons(thumbs, pairs, samples=thumbs[:1])


@given(prompts=st.integers(4, 40), seed=st.integers(0, 5), share=st.sampled_from([0.1, 0.25, 0.5]))
def test_no_prompt_is_on_both_sides_and_no_row_is_lost(prompts: int, seed: int, share: float) -> None:
    whole = lessons(prompts)
    kept, held = split(whole, [], ALL.model_copy(update={"share": share}), seed)
    apart = {row["prompt"] for row in held.thumbs + held.pairs}
    assert apart.isdisjoint(row["prompt"] for row in kept.thumbs + kept.pairs)
    assert len(apart) == max(1, round(share * prompts))
    assert len(kept.thumbs) + len(held.thumbs) == len(whole.thumbs)
    assert len(kept.pairs) + len(held.pairs) == len(whole.pairs)
    assert kept.samples == whole.samples


def test_near_copies_of_a_prompt_are_on_the_same_side() -> None:
    rows = [
        {"prompt": prompt, "completion": "c", "label": bool(k)}
        for n in range(20)
        for k, prompt in enumerate((f"why {n}", f"WHY  {n} "))
    ]
    kept, held = split(Lessons(rows, [], []), [], ALL, seed=0)
    assert len(held.thumbs) == 10
    assert {plain(row["prompt"]) for row in held.thumbs}.isdisjoint(plain(row["prompt"]) for row in kept.thumbs)


def test_no_trial_is_probed_with_what_it_learned_to_like() -> None:
    whole = lessons(40)
    liked = [(row["prompt"], row["completion"]) for row in whole.thumbs if row["label"]]
    chosen = [(row["prompt"], row["chosen"]) for row in whole.pairs]
    probes = [{"probe": "x", "prompt": prompt, "chosen": said, "rejected": "r"} for prompt, said in liked + chosen]
    _, held = split(whole, probes, ALL, seed=0)
    assert {row["prompt"] for row in held.probes} == {row["prompt"] for row in held.thumbs}


def test_the_seed_decides_and_the_order_of_the_rows_does_not() -> None:
    whole = lessons(40)
    turned = Lessons(whole.thumbs[::-1], whole.pairs[::-1], whole.samples)
    one, same, other = (
        {row["prompt"] for row in split(given, [], ALL, seed)[1].thumbs}
        for given, seed in ((whole, 0), (turned, 0), (whole, 1))
    )
    assert one == same != other


def test_measuring_is_capped_by_each_probe() -> None:
    probes = [{"probe": name, "prompt": "p", "chosen": "a", "rejected": "b"} for name in "xxxxyyz"]
    few = Validated(share=0.5, thumbs=6, pairs=2, probes=3)
    kept, held = split(lessons(40), probes, few, seed=0)
    assert held.counts() == {"thumbs": 6, "pairs": 2, "probes": 3 + 2 + 1}
    assert len(kept.thumbs) == 40  # what is not measured for want of time is not trained on either


def test_a_side_with_one_label_and_no_pairs_is_an_error() -> None:
    thumbs = [{"prompt": f"p{n}", "completion": "c", "label": n == 0} for n in range(8)]
    with pytest.raises(BadInput, match=r"search\.validation\.share: expected thumbs up and thumbs down, or pairs, for"):
        split(Lessons(thumbs, [], []), [], ALL, seed=0)


def test_pairs_alone_are_enough() -> None:
    kept, held = split(Lessons([], lessons(12).pairs, []), [], ALL, seed=0)
    assert kept.pairs
    assert held.pairs
