"""Probes for anybody's thumbs: what people liked, against the same with a damage that nobody can like."""

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from rlhf_ray.data.tables import Row, read_if_there
from rlhf_ray.seeds import derive
from rlhf_ray.text import fits

PROBE_TYPES = dict.fromkeys(("probe", "prompt", "chosen", "rejected"), pa.string())
PROBE_COLUMNS = tuple(PROBE_TYPES)
MOST = 100  # pairs of a probe: enough to tell 90 % from 97 %
FEWEST_WORDS = 6  # a shorter completion may be as good in another order, or without its end


def general_probes(liked: list[Row], seed: int, most: int = MOST) -> list[Row]:
    """Rows of PROBE_COLUMNS, at most so many a probe, from `prompt, completion` of what deserves a thumb up.

    A completion that a damage would leave as it is makes no pair, so a probe may have fewer pairs, or none.
    """
    order = list(liked)
    Random(derive(seed, "general probes")).shuffle(order)
    found = []
    for name, damage in DAMAGES.items():
        rng = Random(derive(seed, "general probes", name))
        long = [row for row in order if len(row["completion"].split()) >= FEWEST_WORDS][:most]
        found += [_probe(name, row, damage(row["completion"], rng)) for row in long]
    found += _swapped(order[:most])
    return [row for row in found if _words(row["rejected"]) != _words(row["chosen"])]


def read_probes(path: Path, tokenizer: PreTrainedTokenizerBase, most_tokens: int) -> list[Row]:
    """The probes of a file, none where it is not there, without those of more tokens than the reward model reads.

    A damage may have made them so.
    """
    return [
        row
        for row in read_if_there(path, PROBE_COLUMNS)
        if all(fits(tokenizer, row["prompt"], row[side], most_tokens) for side in ("chosen", "rejected"))
    ]


def in_no_order(text: str, rng: Random) -> str:
    """All its words and its last mark, as one sentence without any order."""
    words = _words(text)
    shuffled = " ".join(rng.sample(words, len(words)))
    return shuffled[:1].upper() + shuffled[1:] + (text[-1:] if text[-1:] in ".!?" else "")


def cut_off(text: str, rng: Random) -> str:
    """Its beginning: between a third and all but one of its words, the last of which ends no sentence."""
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    within = [end for end in ends[len(ends) // 3 : -1] if text[end - 1] not in ".!?"]
    return text[: rng.choice(within)] if within else text


def said_again(text: str, rng: Random) -> str:
    """The whole, and one of its sentences once more."""
    sentences = [sentence for sentence in re.split(r"(?<=[.!?])\s+|\n+", text) if sentence]
    return f"{text.rstrip()} {rng.choice(sentences)}"


def _words(text: str) -> list[str]:
    return [word for token in text.lower().split() if (word := token.strip(".,:;!?"))]


def _swapped(rows: list[Row]) -> list[Row]:
    """Each completion against that of another prompt, two by two: no word is right more often than wrong."""
    couples = zip(rows[::2], rows[1::2], strict=False)
    return [
        _probe("prompt_swapped", row, other["completion"])
        for one, two in couples
        if one["prompt"] != two["prompt"]
        for row, other in ((one, two), (two, one))
    ]


def _probe(name: str, row: Row, rejected: str) -> Row:
    return {"probe": name, "prompt": row["prompt"], "chosen": row["completion"], "rejected": rejected}


DAMAGES: dict[str, Callable[[str, Random], str]] = {
    "keyword_stuffing": in_no_order,
    "truncation": cut_off,
    "repetition": said_again,
}
