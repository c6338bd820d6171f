"""Collect the first thumbs: simulated people rate the demo's answers, or people's own feedback is taken over."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_ray.data.tables import Row, read_table, write_table
from rlhf_ray.distributed.team import assemble
from rlhf_ray.evaluation.answers import sample
from rlhf_ray.feedback.collection import collect, cycle_rows
from rlhf_ray.feedback.report import data_report, in_a_few_lines, write_data_report
from rlhf_ray.incidents.probes import make_probes
from rlhf_ray.incidents.world import PROMPT_COLUMNS
from rlhf_ray.models.loading import load_causal, load_tokenizer
from rlhf_ray.stages import Run, Stage
from rlhf_ray.weights import pack

from jobs.door import perform


def collect_thumbs(run: Run, folder: Path) -> None:
    if run.config.data == "demo":
        ask_people(run, folder)
    else:
        take_over(run, folder)


def ask_people(run: Run, folder: Path) -> None:
    """The demo's simulated people, on what the SFT model says and what was written."""
    config, prompts = run.config, read_table(run.path("world", "prompts.parquet"), PROMPT_COLUMNS)
    with speaking(run) as speak:
        thumbs = collect(speak, prompts, config.collection, config.seed)
    write_table(folder / "thumbs.parquet", thumbs.given)
    write_table(folder / "heldout.parquet", thumbs.heldout)
    write_table(folder / "samples.parquet", thumbs.samples)
    for name, heldout in (("probes", True), ("validation_probes", False)):
        write_table(folder / f"{name}.parquet", make_probes(config.collection.probes, config.seed, heldout=heldout))
    report = data_report(thumbs.given, [], thumbs.heldout, [], [], load_tokenizer(str(run.path("sft"))))
    write_data_report(report, folder)
    print(in_a_few_lines(report), file=sys.stderr, flush=True)


def take_over(run: Run, folder: Path) -> None:
    """What people said, as the stage `world` divided it, beside answers of the SFT model."""
    shutil.copytree(run.path("world", "feedback"), folder, dirs_exist_ok=True)
    prompts = read_table(run.path("world", "prompts.parquet"), ("prompt",))
    with speaking(run) as speak:
        write_table(folder / "samples.parquet", speak(cycle_rows(prompts, run.config.collection.samples)))


@contextmanager
def speaking(run: Run) -> Iterator[Callable[[list[Row]], list[Row]]]:
    """The SFT model's answers to prompts, as long as the team is together."""
    config, sft = run.config, str(run.path("sft").resolve())
    with assemble(config, learns=False) as team:
        sampler, tokenizer = team.sampler(sft), load_tokenizer(sft)
        weights = pack(load_causal(sft).parameters(), version=0)
        yield lambda rows: sample(sampler, tokenizer, rows, weights, config.sampling.prompt_tokens, seed=0)[0]


STAGE = Stage("thumbs", ("world", "sft"), ("data", "collection", "sampling"), collect_thumbs)

if __name__ == "__main__":
    perform([STAGE])
