"""What is counted, for Prometheus through Ray. Every label comes from a list of ours."""

from ray.util.metrics import Counter, Gauge, Histogram

from serve.orders import Load

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]


class Requests:
    """Answers by door and status, and how long they took."""

    def __init__(self) -> None:
        self.requests = Counter("rlhf_requests", "Answered requests.", tag_keys=("door", "status"))
        self.seconds = Histogram("rlhf_request_seconds", "From request to answer.", SECONDS, tag_keys=("door",))

    def __call__(self, door: str, status: int, seconds: float) -> None:
        self.requests.inc(tags={"door": door, "status": str(status)})
        self.seconds.observe(seconds, tags={"door": door})


class Speech:
    """What a generator does."""

    def __init__(self, model: str) -> None:
        self.tags: dict[str, str] = {"model": model}
        self.drawn = 0
        self.tokens = Counter("rlhf_tokens", "Tokens drawn.", tag_keys=("model",))
        self.taken = Gauge("rlhf_slots_taken", "Rows that speak.", tag_keys=("model",))
        self.waiting = Gauge("rlhf_rows_waiting", "Rows that wait for a slot.", tag_keys=("model",))

    def look(self, load: Load) -> None:
        """Record how things stand with all its versions together."""
        if load.drawn > self.drawn:
            self.tokens.inc(load.drawn - self.drawn, tags=self.tags)
        self.drawn = load.drawn
        self.taken.set(load.taken, tags=self.tags)
        self.waiting.set(load.waiting, tags=self.tags)


class Verdicts:
    def __init__(self, model: str) -> None:
        self.tags = {"model": model}
        self.scores = Counter("rlhf_scores", "Pairs judged.", tag_keys=("model",))

    def __call__(self, count: int) -> None:
        self.scores.inc(count, tags=self.tags)
