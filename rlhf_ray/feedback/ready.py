"""Data of one's own made ready for a run: the tables that it learns from and those that it is measured on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from rlhf_ray.chat import prompt_ids
from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import Row, write_table
from rlhf_ray.feedback.data import FEEDBACK, Data
from rlhf_ray.feedback.intake import read_feedback, read_prompts
from rlhf_ray.feedback.probes import MOST, PROBE_TYPES, general_probes
from rlhf_ray.feedback.report import data_report
from rlhf_ray.feedback.split import choose_heldout, split
from rlhf_ray.feedback.thumbs import good_examples

# Columns have their types also where a table is empty or nobody knows the raters.
_ORIGIN = {"rater": pa.string(), "created_at": pa.string()}
PROMPTS = {"prompt": pa.string()}
CORPUS = PROMPTS | {"completion": pa.string()}
THUMBS = CORPUS | {"label": pa.bool_()} | _ORIGIN
PAIRS = PROMPTS | {"chosen": pa.string(), "rejected": pa.string(), "margin": pa.float64()} | _ORIGIN
REJECTED = {"source": pa.string(), "row": pa.int64(), "reason": pa.string(), "content": pa.string()}
KIND = {"kind": "feedback"}  # of the held-out thumbs, where the demo names kinds of statements


@dataclass(frozen=True)
class Ready:
    """`prompts` are for PPO, `corpus` (what was liked or chosen) for SFT; `unasked` prompts are too long for PPO."""

    prompts: list[Row]
    heldout_prompts: list[Row]
    corpus: list[Row]
    thumbs: list[Row]
    heldout: list[Row]
    pairs: list[Row]
    heldout_pairs: list[Row]
    probes: list[Row]
    validation_probes: list[Row]
    rejected: list[Row]
    suspects: Callable[[], list[Row]]
    unasked: int

    def report(self, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        tables = (self.thumbs, self.pairs, self.heldout, self.heldout_pairs, self.rejected)
        return data_report(*tables, tokenizer, unasked=self.unasked, suspects=self.suspects())

    def write(self, folder: Path) -> None:
        """The tables of prompts and corpus, and in `folder/feedback` what people said."""
        said = folder / "feedback"
        said.mkdir()
        write_table(folder / "prompts.parquet", self.prompts, PROMPTS)
        write_table(folder / "heldout.parquet", self.heldout_prompts, PROMPTS)
        write_table(folder / "corpus.parquet", self.corpus, CORPUS)
        write_table(said / "thumbs.parquet", self.thumbs, THUMBS)
        write_table(said / "heldout.parquet", [row | KIND for row in self.heldout], THUMBS | {"kind": pa.string()})
        for name, pairs in (("pairs", self.pairs), ("heldout_pairs", self.heldout_pairs)):
            if pairs:
                write_table(said / f"{name}.parquet", pairs, PAIRS)
        write_table(said / "probes.parquet", self.probes, PROBE_TYPES)
        write_table(said / "validation_probes.parquet", self.validation_probes, PROBE_TYPES)
        write_table(said / "rejected.parquet", self.rejected, REJECTED)


def prepare(
    data: Data, tokenizer: PreTrainedTokenizerBase, *, most_tokens: int, prompt_tokens: int, seed: int
) -> Ready:
    """Read and divide. A prompt may have `prompt_tokens` in PPO, and `most_tokens` with a completion that was judged.

    Raises BadInput where a source cannot be used, or where a side would be left without prompts.
    """
    feedback = read_feedback(data.feedback, tokenizer, most_tokens, data.votes_a_person, data.newcomers)
    judged = _each_once(feedback.thumbs + feedback.pairs)
    asked, rejected = judged, feedback.rejected
    if data.prompts != FEEDBACK:
        asked, turned_away = read_prompts(data.prompts, tokenizer, prompt_tokens)
        rejected = rejected + turned_away
    heldout = choose_heldout(judged, data.heldout, seed) | choose_heldout(asked, data.heldout, seed)
    short = [prompt for prompt in asked if len(prompt_ids(tokenizer, prompt)) <= prompt_tokens]
    prompts, heldout_prompts = split([{"prompt": prompt} for prompt in short], heldout)
    if not prompts or not heldout_prompts:
        raise BadInput(
            f"data: expected prompts of at most {prompt_tokens} tokens (sampling.prompt_tokens) to train on and others "
            f"to hold out, got {len(prompts)} and {len(heldout_prompts)} (and {len(asked) - len(short)} longer ones)"
        )
    thumbs, heldout_thumbs = split(feedback.thumbs, heldout)
    pairs, heldout_pairs = split(feedback.pairs, heldout)
    corpus = good_examples(thumbs, pairs)
    return Ready(
        prompts,
        heldout_prompts,
        corpus,
        thumbs=thumbs,
        heldout=heldout_thumbs,
        pairs=pairs,
        heldout_pairs=heldout_pairs,
        probes=general_probes(good_examples(heldout_thumbs, heldout_pairs), seed),
        validation_probes=general_probes(corpus, seed, most=10 * MOST),  # a search keeps those it does not learn from
        rejected=rejected,
        suspects=feedback.suspects,
        unasked=len(asked) - len(short),
    )


def _each_once(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["prompt"] for row in rows))
