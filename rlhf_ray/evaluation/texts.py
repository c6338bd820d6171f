"""Whether text stays text: variety and repetition over a set of responses."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct word pairs over all word pairs of the responses (arXiv:1510.03055); 0 where there are none."""
    pairs = [pair for text in texts for pair in _pairs(text)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def repetition(texts: Sequence[str]) -> float:
    """Mean share, over the responses, of word pairs that the same response said before."""
    shares = [1 - len(set(pairs)) / len(pairs) for text in texts if (pairs := _pairs(text))]
    return sum(shares) / len(shares) if shares else 0.0


def most_repeated_share(texts: Sequence[str], causes: Sequence[str]) -> float:
    """The largest share of the causes asked about that one and the same response was given to."""
    causes_of = defaultdict(set)
    for text, cause in zip(texts, causes, strict=True):
        causes_of[text].add(cause)
    return max(len(found) for found in causes_of.values()) / len(set(causes))


def _pairs(text: str) -> list[tuple[str, str]]:
    words = text.lower().split()
    return list(pairwise(words))
