"""Lessons: what a reward model learns from, as the stage `thumbs` left it."""

from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from rlhf_ray.data.tables import Row, read_if_there, read_table
from rlhf_ray.feedback.thumbs import PAIR_COLUMNS, read_thumbs
from rlhf_ray.text import as_completions, check_pairs


@dataclass(frozen=True)
class Lessons:
    """Thumbs and pairs to learn from, and the SFT model's answers that give the score its unit."""

    thumbs: list[Row]
    pairs: list[Row]
    samples: list[Row]

    @classmethod
    def read(cls, folder: Path) -> "Lessons":
        """From the stage's folder. Raises BadInput where a table is none."""
        return cls(
            thumbs=read_thumbs(folder / "thumbs.parquet"),
            pairs=read_if_there(folder / "pairs.parquet", (*PAIR_COLUMNS, "margin")),
            samples=read_table(folder / "samples.parquet", ("prompt", "completion")),
        )

    def check(self, tokenizer: PreTrainedTokenizerBase, most_tokens: int) -> None:
        """Raises BadInput, at the door, where a text is longer than `most_tokens` with its prompt."""
        sides = [row for side in ("chosen", "rejected") for row in as_completions(self.pairs, side)]
        check_pairs(tokenizer, self.thumbs + self.samples + sides, most_tokens)

    def without(self, prompts: set[str]) -> "Lessons":
        """The lessons on all other prompts; samples teach nothing, so all of them stay."""
        thumbs, pairs = ([row for row in rows if row["prompt"] not in prompts] for rows in (self.thumbs, self.pairs))
        return replace(self, thumbs=thumbs, pairs=pairs)
