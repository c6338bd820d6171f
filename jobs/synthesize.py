"""Make the demo's world: corpus, prompts and held-out prompts."""

from pathlib import Path

from rlhf_ray.data.tables import write_table
from rlhf_ray.incidents.world import make_corpus, make_prompts
from rlhf_ray.stages import Run, Stage

from jobs.door import perform


def synthesize(run: Run, folder: Path) -> None:
    world, seed = run.config.world, run.config.seed
    write_table(folder / "corpus.parquet", make_corpus(world.corpus, seed))
    write_table(folder / "prompts.parquet", make_prompts(world.train_prompts, seed, heldout=False))
    write_table(folder / "heldout.parquet", make_prompts(world.heldout_prompts, seed, heldout=True))
    wordings = make_prompts(world.heldout_wordings, seed, heldout=True, wordings="heldout")
    write_table(folder / "heldout_wordings.parquet", wordings)


STAGE = Stage("world", reads=(), settings=("world",), work=synthesize)

if __name__ == "__main__":
    perform([STAGE])
