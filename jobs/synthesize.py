"""Make the prompts, held-out prompts and corpus: the demo's world, or out of feedback of one's own."""

import sys
from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.data.tables import write_table
from rlhf_ray.feedback.ready import prepare
from rlhf_ray.feedback.report import in_a_few_lines, write_data_report
from rlhf_ray.incidents.world import make_corpus, make_prompts
from rlhf_ray.models.folder import fingerprint
from rlhf_ray.models.loading import load_tokenizer
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage

from jobs.door import perform


def synthesize(run: Run, folder: Path) -> None:
    if run.config.data == "demo":
        make_world(run.config, folder)
    else:
        take_in(run.config, folder)


def make_world(config: RunConfig, folder: Path) -> None:
    world, seed = config.world, config.seed
    write_table(folder / "corpus.parquet", make_corpus(world.corpus, seed))
    write_table(folder / "prompts.parquet", make_prompts(world.train_prompts, seed, heldout=False))
    write_table(folder / "heldout.parquet", make_prompts(world.heldout_prompts, seed, heldout=True))
    wordings = make_prompts(world.heldout_wordings, seed, heldout=True, wordings="heldout")
    write_table(folder / "heldout_wordings.parquet", wordings)


def take_in(config: RunConfig, folder: Path) -> None:
    """Also writes what people said to `feedback/`, where the stage `thumbs` finds it, and says what is in the data."""
    assert config.data != "demo"  # noqa: S101  (for the type checker)
    tokenizer = load_tokenizer(config.base)
    limits = {"most_tokens": config.most_tokens, "prompt_tokens": config.sampling.prompt_tokens}
    ready = prepare(config.data, tokenizer, **limits, seed=config.seed)
    if config.sft != "none" and not ready.corpus:
        raise BadInput("data.feedback: expected something that was liked or chosen for sft to learn, got nothing")
    ready.write(folder)
    report = ready.report(tokenizer)
    write_data_report(report, folder / "feedback")
    print(in_a_few_lines(report), file=sys.stderr, flush=True)


def sources_of(config: RunConfig) -> dict[str, str]:
    """What a demo does not read: the files, and the tokenizer and lengths that decide which of their rows fit."""
    if config.data == "demo":
        return {}
    lengths = {"most_tokens": str(config.most_tokens), "prompt_tokens": str(config.sampling.prompt_tokens)}
    return config.data.fingerprints | lengths | {"base": fingerprint(config.base), "sft": str(config.sft != "none")}


STAGE = Stage("world", reads=(), settings=("data", "world"), work=synthesize, outside=sources_of)

if __name__ == "__main__":
    perform([STAGE])
