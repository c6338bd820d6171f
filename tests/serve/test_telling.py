"""What is told piece by piece is the text, and ends before a stop string."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve.telling import Telling


def told(tokenizer: Any, tokens: list[int], stop: list[str]) -> tuple[list[str], Telling]:
    telling, pieces = Telling(tokenizer, stop), []
    for count, token in enumerate(tokens, start=1):
        telling.hear(token)
        if telling.stopped:
            return [*pieces, telling.rest(tokens[:count])], telling
        pieces.append(telling.fresh())
    return [*pieces, telling.rest(tokens)], telling


@given(st.data())
def test_the_pieces_are_the_text_up_to_the_first_stop_string(tokenizer: Any, data: Any) -> None:
    tokens = data.draw(st.lists(st.integers(2, len(tokenizer) - 1), max_size=30))
    whole = tokenizer.decode(tokens)
    stop = data.draw(st.lists(st.text("abcdefgh .", min_size=1, max_size=3), max_size=3))
    pieces, telling = told(tokenizer, tokens, stop)
    places = [whole.find(each) for each in stop if each in whole]
    assert "".join(pieces) == (whole[: min(places)] if places else whole)
    assert telling.stopped == bool(places)
