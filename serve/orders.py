"""What is asked of a generator, and what comes back: the nouns between the doors and the engine."""

from dataclasses import dataclass, field

from rlhf_ray.chat import as_prompt

from serve.artefact import Artefact, version_of


@dataclass(frozen=True)
class Order:
    """One prompt, and how to answer it. Sample `i` draws from `(seed, i)`; a temperature of 0 is greedy.

    `prompt` is a text, or the messages of a chat. `alternatives` is how many likeliest tokens are named at
    each place; None: tokens are not spelled at all. A text is read as it stands, or `as_trained`: through the model's
    chat template, if it has one. `model` is the version that answers; None: the one that is served.
    """

    prompt: str | list[dict[str, str]]
    seed: int
    samples: int = 1
    most_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    alternatives: int | None = None
    as_trained: bool = False
    model: Artefact | None = None

    @property
    def asked(self) -> str:
        """The prompt as one text, as data to train on has it."""
        return self.prompt if isinstance(self.prompt, str) else as_prompt(self.prompt)


@dataclass
class Said:
    """One sample: its text without what ended it, each token drawn with its log-probability (nats), and why it ended.

    `finish` is `stop` or `length`, None while there is more to come; with `ended` the last token is an end-of-text.
    `spelled` and `alternatives` (the likeliest tokens at each place) are filled where the order asks for them.
    """

    sample: int
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    spelled: list[str] = field(default_factory=list)
    alternatives: list[list[tuple[str, float]]] = field(default_factory=list)
    finish: str | None = None
    ended: bool = False

    def then(self, more: "Said") -> "Said":
        """This and what came after it, as one."""
        return Said(
            self.sample,
            self.text + more.text,
            self.tokens + more.tokens,
            self.logprobs + more.logprobs,
            self.spelled + more.spelled,
            self.alternatives + more.alternatives,
            more.finish,
            more.ended,
        )

    def add(self, more: "Said") -> None:
        """What came after it becomes part of it."""
        self.text += more.text
        self.tokens += more.tokens
        self.logprobs += more.logprobs
        self.spelled += more.spelled
        self.alternatives += more.alternatives
        self.finish, self.ended = more.finish, more.ended

    def since(self, begin: int, text: str) -> "Said":
        """What came with the tokens from `begin` on, which tell `text`."""
        return Said(
            self.sample,
            text,
            self.tokens[begin:],
            self.logprobs[begin:],
            self.spelled[begin:],
            self.alternatives[begin:],
            self.finish,
            self.ended,
        )


@dataclass(frozen=True)
class Answer:
    """All samples of an order, or some more of them, the prompt's length, and the digest of the model that said it."""

    said: list[Said]
    prompt_tokens: int
    digest: str

    @property
    def version(self) -> str:
        return version_of(self.digest)


@dataclass(frozen=True)
class Load:
    """How much of a generator is taken: its slots, the rows that speak in them, and those that wait for one.

    `drawn` are the tokens that it ever said.
    """

    slots: int
    taken: int
    waiting: int
    drawn: int = 0


@dataclass(frozen=True)
class Refusal:
    """Why an order is not answered: an HTTP status and a sentence. A value, since an error would be logged by Ray.

    `after_s` is when to come again, where that can help.
    """

    status: int
    message: str
    field: str | None = None
    after_s: int = 1
