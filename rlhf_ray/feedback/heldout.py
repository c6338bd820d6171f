"""What a reward model is measured on and never trained on: thumbs, pairs and probes."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from rlhf_ray.data.tables import Row, read_if_there
from rlhf_ray.feedback.probes import read_probes
from rlhf_ray.feedback.thumbs import COLUMNS, PAIR_COLUMNS
from rlhf_ray.text import as_completions, check_pairs


@dataclass(frozen=True)
class Heldout:
    """Thumbs have `prompt, completion, label`, perhaps `kind`; pairs `prompt, chosen, rejected`; probes a name more."""

    thumbs: list[Row]
    pairs: list[Row]
    probes: list[Row]


def read_heldout(folder: Path, tokenizer: PreTrainedTokenizerBase, most_tokens: int) -> Heldout:
    """What the stage of the thumbs left in its folder; a table that it had no rows for is not there.

    Raises BadInput where thumbs or pairs are longer than the reward model reads.
    """
    heldout = Heldout(
        thumbs=read_if_there(folder / "heldout.parquet", COLUMNS, ("kind",)),
        pairs=read_if_there(folder / "heldout_pairs.parquet", PAIR_COLUMNS),
        probes=read_probes(folder / "probes.parquet", tokenizer, most_tokens),
    )
    sides = [row for side in ("chosen", "rejected") for row in as_completions(heldout.pairs, side)]
    check_pairs(tokenizer, heldout.thumbs + sides, most_tokens)
    return heldout
