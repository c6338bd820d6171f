"""A text as it comes to be, token by token: what of it can be told already, and where it is to stop."""

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase


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
