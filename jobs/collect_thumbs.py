"""Collect the first thumbs: simulated people rate the SFT model's answers and written statements."""

from pathlib import Path

from rlhf_ray.data.tables import Row, read_table, write_table
from rlhf_ray.distributed.team import assemble
from rlhf_ray.evaluation.answers import sample
from rlhf_ray.feedback.collection import collect
from rlhf_ray.incidents.world import PROMPT_COLUMNS
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.stages import Run, Stage
from rlhf_ray.weights import pack

from jobs.door import perform


def collect_thumbs(run: Run, folder: Path) -> None:
    config, sft = run.config, str(run.path("sft").resolve())
    prompts = read_table(run.path("world", "prompts.parquet"), PROMPT_COLUMNS)
    with assemble(config) as team:
        sampler, tokenizer = team.sampler(sft), load_tokenizer(sft)
        weights = pack(load_causal(sft).parameters(), version=0)

        def speak(rows: list[Row]) -> list[Row]:
            return sample(sampler, tokenizer, rows, weights, config.sampling.prompt_tokens, seed=0)[0]

        thumbs = collect(speak, prompts, config.collection, config.seed)
    write_table(folder / "thumbs.parquet", thumbs.given)
    write_table(folder / "heldout.parquet", thumbs.heldout)
    write_table(folder / "samples.parquet", thumbs.samples)


STAGE = Stage("thumbs", reads=("world", "sft"), settings=("collection", "sampling"), work=collect_thumbs)

if __name__ == "__main__":
    perform([STAGE])
