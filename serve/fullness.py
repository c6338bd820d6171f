"""How full a generator is, as far as one who asks it can tell: what it refused is not asked of it again at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

BELIEVED_S = 1.0  # as long as clients are told to wait


class Fullness:
    """Counts the samples under way. Where so many were too much, they are too much for a second, without a call."""

    def __init__(self) -> None:
        self.under_way = self.most = 0
        self.until = 0.0

    def has_room(self, samples: int) -> bool:
        return monotonic() >= self.until or self.under_way + samples <= self.most

    @contextmanager
    def under(self, samples: int) -> Iterator[int]:
        """While these samples are under way. Gives how many are so with them."""
        self.under_way += samples
        together = self.under_way
        try:
            yield together
        finally:
            self.under_way -= samples

    def refused(self, together: int) -> None:
        """So many were too many: of an order for many samples that does not say that fewer would be."""
        self.most, self.until = together - 1, monotonic() + BELIEVED_S
