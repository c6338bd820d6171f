"""The config of data of one's own."""

from pydantic import Field

from rlhf_ray.config import Config
from rlhf_ray.feedback.sources import fingerprints

FEEDBACK = "feedback"


class Data(Config):
    """Feedback and prompts of one's own."""

    feedback: list[str] = Field(
        min_length=1,
        description="Files (.parquet, .jsonl, .json, .csv), folders of a ledger or its snapshot, or "
        "hub:<dataset>[@<split>] with thumbs, pairs or ratings.",
    )
    votes_a_person: int = Field(
        20, ge=1, description="Most votes of one person in a ledger that count in a run; which ones is drawn."
    )
    newcomers: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Largest share of a ledger's votes in a run that accounts which came on one day have; 1: any.",
    )
    prompts: str = Field(
        FEEDBACK,
        min_length=1,
        description="A file with a column prompt, for PPO; feedback: the feedback's own prompts.",
    )
    heldout: float = Field(0.1, gt=0, lt=1, description="Share of the prompts that is kept for measuring.")

    @property
    def fingerprints(self) -> dict[str, str]:
        """The digest of everything that is read. Raises BadInput where a file is missing."""
        return fingerprints([*self.feedback, *([] if self.prompts == FEEDBACK else [self.prompts])])
