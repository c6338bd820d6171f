"""What somebody who listens to a text, token by token, has heard of it already."""

from serve.orders import Said


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
