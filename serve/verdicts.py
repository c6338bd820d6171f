"""What is asked of a reward model, and what comes back."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """A prompt and what was answered; without a completion, a text that is judged as it stands."""

    prompt: str
    completion: str | None = None


@dataclass(frozen=True)
class Verdict:
    """`score` is normalised, as PPO saw it. `probability` is that of a 👍: the raw logit is its log-odds."""

    score: float
    probability: float
    tokens: int
