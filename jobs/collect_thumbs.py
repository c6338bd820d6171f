"""Collect the first thumbs: simulated people rate the SFT model's answers and written statements."""

from pathlib import Path

from rlhf_ray.data.tables import Row, read_table, write_table
from rlhf_ray.distributed.team import assemble
from rlhf_ray.evaluation.answers import repeat, sample
from rlhf_ray.incidents import world
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.stages import Run, Stage
from rlhf_ray.weights import pack

from jobs.door import perform


def collect_thumbs(run: Run, folder: Path) -> None:
    collection, seed, sft = run.config.collection, run.config.seed, str(run.path("sft"))
    prompts = read_table(run.path("world", "prompts.parquet"), world.PROMPT_COLUMNS)
    asked = repeat(prompts, -(-collection.samples // len(prompts)))[: collection.samples]
    heldout = world.make_prompts(collection.heldout, seed + 1, heldout=True)
    with assemble(run.config) as team:
        sampler, tokenizer, weights = team.sampler(sft), load_tokenizer(sft), pack(load_causal(sft), version=0)
        answers, _ = sample(sampler, tokenizer, asked + heldout, weights, run.config.sampling.prompt_tokens, seed=0)
    answers = [row | {"kind": "sample"} for row in answers]
    samples, heldout_samples = answers[: len(asked)], answers[len(asked) :]
    statements = world.write_statements(
        repeat(prompts, -(-collection.statements // len(prompts)))[: collection.statements], seed
    )
    rated = world.shuffled(_in_seen_wordings(samples) + statements, seed)
    write_table(folder / "thumbs.parquet", world.rate(rated, seed, raters=collection.raters, noise=collection.noise))
    write_table(
        folder / "heldout.parquet", world.rate_fairly(heldout_samples + world.write_statements(heldout, seed + 1))
    )
    write_table(folder / "samples.parquet", samples)


def _in_seen_wordings(rows: list[Row]) -> list[Row]:
    """Held-out wordings stay out of the thumbs, also where the base knows them."""
    return [row for row in rows if not world.holds_heldout_wording(row["completion"])]


STAGE = Stage("thumbs", reads=("world", "sft"), settings=("collection", "sampling"), work=collect_thumbs)

if __name__ == "__main__":
    perform([STAGE])
