"""How far people agree who judged the same thing."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from math import comb
from typing import Any

Verdict = tuple[Hashable, str | None, bool]  # what was judged, by whom (None: nobody knows), and yes or no


def agreement(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """`items` that two known raters or more judged, the share of `pairs` of them who agree, and Krippendorff's `alpha`.

    Alpha is 1 where all agree and 0 where they do no better than chance. Both are None where they are undefined. Of one
    rater's verdicts on a thing the last counts.
    """
    said: dict[Hashable, dict[str, bool]] = defaultdict(dict)
    for item, rater, verdict in verdicts:
        if rater is not None:
            said[item][rater] = verdict
    counts = [(sum(found.values()), len(found)) for found in said.values() if len(found) > 1]
    if not counts:
        return {"items": 0, "pairs": None, "alpha": None}
    agreeing = sum(comb(yes, 2) + comb(of - yes, 2) for yes, of in counts)
    all_yes, everyone = sum(yes for yes, _ in counts), sum(of for _, of in counts)
    seen = sum(2 * yes * (of - yes) / (of - 1) for yes, of in counts) / everyone
    by_chance = 2 * all_yes * (everyone - all_yes) / (everyone * (everyone - 1))
    return {
        "items": len(counts),
        "pairs": agreeing / sum(comb(of, 2) for _, of in counts),
        "alpha": 1 - seen / by_chance if by_chance else None,
    }
