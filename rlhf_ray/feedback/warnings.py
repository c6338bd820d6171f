"""What in a data set will hurt, in words: each warning says what was found and what it leads to."""

from collections.abc import Iterator
from typing import Any

FEW_TO_LEARN, FEW_TO_MEASURE = 300, 50  # thumbs and pairs
ONE_SIDED = 0.1  # share of the rarer thumb
GIVEN_AWAY = 0.2  # distance from 0.5 at which length alone tells a label
CONFLICTING = 0.05  # share of the completions with both labels
DISAGREEING = 0.4  # Krippendorff's alpha below which raters do not mean the same
STUBBORN = 20  # thumbs of a rater who only ever gives one
MUCH_REJECTED = 0.1  # share of all rows


def warnings_of(facts: dict[str, Any]) -> list[str]:
    """`facts` as report.data_report has them."""
    return [
        *_of_amounts(facts),
        *_of_raters(facts),
        *_of_suspects(facts["suspects"]),
        *_of_lengths(facts["lengths"]),
        *_of_rows(facts),
    ]


def _of_amounts(facts: dict[str, Any]) -> Iterator[str]:
    thumbs, pairs = facts["thumbs"], facts["pairs"]
    learned, measured = (thumbs[side]["rows"] + pairs[side]["rows"] for side in ("train", "heldout"))
    if learned < FEW_TO_LEARN:
        yield f"{learned} thumbs and pairs to learn from are few; expect a reward model that is often wrong"
    if measured < FEW_TO_MEASURE:
        yield f"{measured} held-out thumbs and pairs are few; every figure will have a wide interval"
    for side, use in (("train", "learn from"), ("heldout", "measure on")):
        up = thumbs[side]["up_share"]
        if up in (0.0, 1.0):
            yield f"all thumbs to {use} are {'up' if up else 'down'}; there is nothing to tell apart in them"
        elif up is not None and min(up, 1 - up) < ONE_SIDED:
            yield f"{up:.0%} of the thumbs to {use} are up; always guessing the same would look good"


def _of_raters(facts: dict[str, Any]) -> Iterator[str]:
    conflicts = facts["conflicts"]
    if conflicts["items"] > CONFLICTING * conflicts["of_items"]:
        yield f"{conflicts['items']} of {conflicts['of_items']} completions have thumbs up and down; which is right?"
    for what, found in facts["agreement"].items():
        if found["alpha"] is not None and found["alpha"] < DISAGREEING:
            yield (
                f"raters of the same {what} agree {found['pairs']:.0%} of the time (alpha {found['alpha']:.2f}); "
                "they may not mean the same by good"
            )
    stubborn = [
        rater
        for rater, found in facts["raters"].items()
        if found["thumbs"] >= STUBBORN and found["up_share"] in (0.0, 1.0)
    ]
    if stubborn:
        yield f"{_names(stubborn)} gave one and the same thumb to everything; that says nothing"


def _of_suspects(suspects: list[dict[str, Any]]) -> Iterator[str]:
    for day in sorted({row["first_day"] for row in suspects if row["crowd"]}):
        crowd = [row for row in suspects if row["crowd"] and row["first_day"] == day]
        given, counted = (sum(row[count] for row in crowd) for count in ("votes", "counted"))
        yield (
            f"{len(crowd)} accounts that came on {day} gave {given} votes, of which {counted} count (data.newcomers): "
            f"{_names([row['rater'] for row in crowd])}; do you know these people?"
        )
    if at_odds := [row["rater"] for row in suspects if not row["crowd"]]:
        yield f"{_names(at_odds)} mostly vote against what others say of such words; are they mistaken, or mean ill?"


def _names(people: list[str]) -> str:
    more = f" and {len(people) - 3} more" if len(people) > 3 else ""
    return f"{', '.join(people[:3])}{more}"


def _of_lengths(lengths: dict[str, Any]) -> Iterator[str]:
    for figure, better in (("auc_of_length", "liked"), ("longer_is_chosen", "chosen")):
        told = lengths[figure]
        if told is not None and abs(told - 0.5) > GIVEN_AWAY:
            word, sure = ("longer", told) if told > 0.5 else ("shorter", 1 - told)
            yield f"the {word} of two answers is the {better} one in {sure:.0%}; the reward may just learn length"


def _of_rows(facts: dict[str, Any]) -> Iterator[str]:
    leaked = facts["leakage"]["prompts"] + facts["leakage"]["near_copies"]
    if leaked:
        yield f"{leaked} held-out prompts stand, or nearly, in the training data; what is measured on them is memory"
    if facts["unasked_prompts"]:
        yield f"{facts['unasked_prompts']} prompts are longer than sampling.prompt_tokens; PPO does not ask them"
    rejected = facts["rejected"]["rows"]
    kept = sum(facts[kind][side]["rows"] for kind in ("thumbs", "pairs") for side in ("train", "heldout"))
    if rejected > MUCH_REJECTED * (rejected + kept):
        reason = next(iter(facts["rejected"]["by_reason"]))
        yield f"{rejected} rows were rejected, most often for: {reason}"
