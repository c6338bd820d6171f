"""How fast a person may go."""

from collections import OrderedDict, deque
from math import ceil
from time import monotonic

MOST_PEOPLE = 10_000  # who are remembered; who was silent for longest is forgotten first


class Pace:
    """`most` in `seconds`, for each person."""

    def __init__(self, most: int, seconds: float = 60) -> None:
        self.most, self.seconds = most, seconds
        self.times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, person: str) -> int:
        """Whole seconds until the person may go on; 0 is now, and counts."""
        now = monotonic()
        times = self.times.setdefault(person, deque(maxlen=self.most))
        self.times.move_to_end(person)
        if len(self.times) > MOST_PEOPLE:
            self.times.popitem(last=False)
        if len(times) == self.most and now - times[0] < self.seconds:
            return ceil(times[0] + self.seconds - now)
        times.append(now)
        return 0
