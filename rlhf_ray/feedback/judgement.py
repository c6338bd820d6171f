"""What one person said, in its normal form: a thumb, a pair or a rating whose every part has been looked at."""

import math
import re
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from rlhf_ray.chat import plain_ids, prompt_ids
from rlhf_ray.data.tables import Row

UP = {"true", "1", "1.0", "+1", "up", "thumbs up", "thumb up", "yes", "good", "like", "liked", "👍"}
DOWN = {
    "false",
    "0",
    "0.0",
    "-1",
    "-1.0",
    "down",
    "thumbs down",
    "thumb down",
    "no",
    "bad",
    "dislike",
    "disliked",
    "👎",
}
SKIN_TONES = dict.fromkeys([*range(0x1F3FB, 0x1F400), 0xFE0F])  # 👍🏽 is 👍
LOWEST, HIGHEST = 1, 5  # ratings


class Unusable(ValueError):
    """Why a row cannot be used: the field, what was expected, and what came."""


class Room:
    """How long a prompt and its completion may be together, in tokens with end-of-text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, most_tokens: int) -> None:
        self.most_tokens = most_tokens
        # Most prompts come several times in a row.
        self.asked = lru_cache(maxsize=1024)(lambda prompt: len(prompt_ids(tokenizer, prompt)))
        self.said = lambda completion: len(plain_ids(tokenizer, completion))
        # No token stands for more characters than this: what is longer need not be tokenised to be too long.
        self.longest_token = max(map(len, tokenizer.get_vocab()))

    def check(self, prompt: str, completion: str, name: str) -> None:
        """Raises Unusable where they do not fit."""
        self._check(f"{name}: expected at most {self.most_tokens} tokens with its prompt", prompt, completion)

    def check_prompt(self, prompt: str) -> None:
        """Raises Unusable where there is no place for a completion of nothing."""
        self._check(f"prompt: expected at most {self.most_tokens - 1} tokens", prompt, "")

    def _check(self, expected: str, prompt: str, completion: str) -> None:
        characters = len(prompt) + len(completion)
        if characters > self.most_tokens * self.longest_token:
            raise Unusable(f"{expected}, got {characters} characters")
        tokens = 1 + self.asked(prompt) + self.said(completion)
        if tokens > self.most_tokens:
            raise Unusable(f"{expected}, got {tokens}")


class AnyLength(Room):
    """Room for whatever comes."""

    def __init__(self) -> None:
        pass

    def check(self, prompt: str, completion: str, name: str) -> None:
        pass


def thumb(row: Row, room: Room) -> Row:
    """`prompt, completion, label, rater, created_at`. Raises Unusable."""
    prompt, completion = _asked_and_said(row, room)
    return {"prompt": prompt, "completion": completion, "label": thumb_up(row.get("label"))} | _origin(row)


def rating(row: Row, room: Room) -> Row:
    """`prompt, completion, rating, rater, created_at`. Raises Unusable."""
    prompt, completion = _asked_and_said(row, room)
    stars = _number(row.get("rating"))
    if stars is None or not LOWEST <= stars <= HIGHEST:
        raise Unusable(f"rating: expected a number from {LOWEST} to {HIGHEST}, got {_seen(row.get('rating'))}")
    return {"prompt": prompt, "completion": completion, "rating": stars} | _origin(row)


def pair(row: Row, room: Room) -> Row:
    """`prompt, chosen, rejected, margin, rater, created_at`. Raises Unusable."""
    prompt = text(row, "prompt")
    chosen, rejected = (text(row, name, may_be_empty=True) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise Unusable("chosen, rejected: expected two completions, got the same one twice")
    room.check(prompt, chosen, "chosen")
    room.check(prompt, rejected, "rejected")
    given = row.get("margin")
    margin = 0.0 if given in (None, "") else _number(given)
    if margin is None or margin < 0:
        raise Unusable(f"margin: expected a number of at least 0, got {_seen(given)}")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "margin": margin} | _origin(row)


def text(row: Row, name: str, *, may_be_empty: bool = False) -> str:
    """The row's text of that name. Raises Unusable where it is none, or one that no tokenizer and no table can hold."""
    value = row.get(name)
    if not isinstance(value, str):
        raise Unusable(f"{name}: expected a text, got {_seen(value)}")
    if not may_be_empty and not value.strip():
        raise Unusable(f"{name}: expected a text, got an empty one")
    if "\0" in value:
        raise Unusable(f"{name}: expected a text without NUL characters, got one with them")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{name}: expected whole characters, got half a one (a lone surrogate, or no UTF-8)") from None
    return value


def thumb_up(label: Any) -> bool:
    """Whether a label, in one of the many ways to say it, is a thumb up. Raises Unusable where it is no thumb."""
    if isinstance(label, str | int | float):
        word = re.sub(r"[\s_]|(?<=s|b)-", " ", str(label).translate(SKIN_TONES).strip().lower())
        if word in UP | DOWN:
            return word in UP
    raise Unusable(f"label: expected a thumb up or down, got {_seen(label)}")


def _asked_and_said(row: Row, room: Room) -> tuple[str, str]:
    """A completion may be empty: a model that said nothing deserves its thumb, too."""
    prompt, completion = text(row, "prompt"), text(row, "completion", may_be_empty=True)
    room.check(prompt, completion, "completion")
    return prompt, completion


def _origin(row: Row) -> Row:
    return {name: _clean(row.get(name)) for name in ("rater", "created_at")}


def _clean(value: str | None) -> str | None:
    return None if value is None else value.replace("\0", "").encode("utf-8", "replace").decode()


def _number(value: Any) -> float | None:
    """A finite number, also where a table of texts holds it; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _seen(value: Any) -> str:
    """What came, short enough for one line."""
    return "nothing" if value is None or value == "" else ascii(value)[:60]
