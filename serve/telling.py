"""A text as it comes to be, token by token: what of it can be told already, and where it is to stop."""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

from serve.orders import Said


class Telling:
    """Tokens in, text out. A character is told when it is whole, and what may become a stop string is held back."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.stream = DecodeStream(skip_special_tokens=True)
        self.text = ""
        self.told = 0
        self.stopped = False

    def hear(self, token: int) -> None:
        """One more token. `stopped` is whether a stop string is complete; the text then ends before it."""
        fresh = self.stream.step(self.tokenizer._tokenizer, token)
        if not fresh or self.stopped:
            return
        longest = max(map(len, self.stop), default=1)
        first = max(0, len(self.text) - longest + 1)
        self.text += fresh
        found = [place for stop in self.stop if (place := self.text.find(stop, first)) >= 0]
        if found:
            self.text, self.stopped = self.text[: min(found)], True

    def fresh(self) -> str:
        """What can be told now and has not been."""
        until = len(self.text) - (0 if self.stopped else self._held())
        text, self.told = self.text[self.told : until], max(self.told, until)
        return text

    def rest(self, tokens: Sequence[int]) -> str:
        """What is left to tell of all `tokens` when nothing more comes: what was held back, and half a character."""
        if not self.stopped:
            whole = self.tokenizer.decode(tokens, skip_special_tokens=True)
            self.text = whole if whole.startswith(self.text) else self.text
        text, self.told = self.text[self.told :], len(self.text)
        return text

    def _held(self) -> int:
        """Length of the longest end of the text that some stop string begins with."""
        longest = max(map(len, self.stop), default=1) - 1
        for length in range(min(longest, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-length:]) for stop in self.stop):
                return length
        return 0


class Heard:
    """What a listener has heard of each sample, so that one who asks for the same again hears what is new alone."""

    def __init__(self) -> None:
        self.most: dict[int, tuple[int, int, bool]] = {}  # tokens, characters, and whether that was all
        self.now: dict[int, tuple[int, int, bool]] = {}

    def begin_again(self) -> None:
        self.now = {}

    def fresh(self, said: Said) -> Said | None:
        """What of the next piece was not heard before; None where all of it was."""
        none = (0, 0, False)
        tokens, characters, _ = self.now.get(said.sample, none)
        most = self.most.get(said.sample, none)
        reached = tokens + len(said.tokens), characters + len(said.text), said.finish is not None
        self.now[said.sample] = reached
        if reached <= most:
            return None
        self.most[said.sample] = reached
        return said.since(max(0, most[0] - tokens), said.text[max(0, most[1] - characters) :])
