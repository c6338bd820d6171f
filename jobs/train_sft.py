"""Teach the base model the form of the answers, or adopt it as it is."""

from pathlib import Path

from rlhf_ray.data.tables import read_table
from rlhf_ray.distributed.fit import fit
from rlhf_ray.models.folder import fingerprint, resolve
from rlhf_ray.models.loading import check_finite, context_length, load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage
from rlhf_ray.text import check_pairs
from rlhf_ray.training.progress import Reporter
from rlhf_ray.training.sft import adopt, fine_tune

from jobs.door import perform


def train_sft(run: Run, folder: Path) -> None:
    config = run.config
    config.check_base()
    if config.sft == "none":
        adopt(base=config.base, folder=str(folder))
        return
    corpus = read_table(run.path("world", "corpus.parquet"), ("prompt", "completion"))
    check_pairs(load_tokenizer(config.base), corpus, min(config.sft.most_tokens, context_length(config.base)))
    arguments = {
        "base": resolve(config.base),
        "corpus": corpus,
        "sft": config.sft,
        "seed": config.seed,
        "report": Reporter("sft"),
    }
    fit(fine_tune, arguments, config, folder)
    check_finite(folder)


def base_of(config: RunConfig) -> dict[str, str]:
    return {"base": fingerprint(config.base)}


SETTINGS = ("base", "sft", "sampling")
STAGE = Stage("sft", ("world",), SETTINGS, train_sft, resumes=True, outside=base_of)

if __name__ == "__main__":
    perform([STAGE])
