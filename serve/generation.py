"""The size of an engine, for whoever asks one, wherever it runs."""

from pydantic import Field

from rlhf_ray.config import Config


class Generation(Config):
    """The size of an engine. All of it is part of what is computed: keep it to get the same bits."""

    slots: int = Field(32, ge=1, le=512, description="Rows that speak together.")
    prompt_tokens: int = Field(112, ge=1, le=100_000, description="Most tokens of a prompt.")
    response_tokens: int = Field(88, ge=1, le=100_000, description="Most tokens of a response, and the default.")
    queue: int = Field(32, ge=0, le=10_000, description="Rows that may wait for a slot; beyond, the answer is 429.")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where the model computes.")

    @property
    def room(self) -> int:
        """Samples that may be under way at once."""
        return self.slots + self.queue

    @property
    def columns(self) -> int:
        return self.prompt_tokens + self.response_tokens
