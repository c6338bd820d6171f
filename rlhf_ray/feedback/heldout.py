"""What a reward model is measured on and never trained on: thumbs, pairs and probes."""

from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from rlhf_ray.data.tables import Row, read_table
from rlhf_ray.feedback.probes import PROBE_COLUMNS
from rlhf_ray.feedback.thumbs import COLUMNS, PAIR_COLUMNS
from rlhf_ray.text import fits


@dataclass(frozen=True)
class Heldout:
    """Thumbs have `prompt, completion, label`, perhaps `kind`; pairs `prompt, chosen, rejected`; probes a name more."""

    thumbs: list[Row]
    pairs: list[Row]
    probes: list[Row]

    def fitting(self, tokenizer: PreTrainedTokenizerBase, most_tokens: int) -> "Heldout":
        """Without probes that are longer than the reward model reads: a damage may have made them so."""
        kept = [
            row
            for row in self.probes
            if all(fits(tokenizer, row["prompt"], row[side], most_tokens) for side in PAIR_COLUMNS[1:])
        ]
        return replace(self, probes=kept)


def read_heldout(folder: Path) -> Heldout:
    """What the stage of the thumbs left in its folder; a table that it had no rows for is not there."""

    def rows(name: str, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> list[Row]:
        path = folder / f"{name}.parquet"
        return read_table(path, columns, optional) if path.is_file() else []

    return Heldout(
        thumbs=rows("heldout", COLUMNS, ("kind",)),
        pairs=rows("heldout_pairs", PAIR_COLUMNS),
        probes=rows("probes", PROBE_COLUMNS),
    )
