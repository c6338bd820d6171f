"""Make the base model that ships with the package: `python -m jobs.pretrain [FOLDER] [key=value …]`."""

import sys
from pathlib import Path

import torch

from rlhf_ray.config import BadInput, load
from rlhf_ray.evaluation.cards import write_base_card
from rlhf_ray.incidents.world import make_base_corpus
from rlhf_ray.training.pretrain import Pretraining, pretrain
from rlhf_ray.training.progress import Reporter

from jobs.door import was_help_asked
from jobs.ending import guarded

USAGE = "python -m jobs.pretrain [FOLDER] [key=value …]"


def main(*words: str) -> None:
    if was_help_asked(list(words), USAGE, "rlhf_ray/training/pretrain.py"):
        return
    overrides = [word for word in words if "=" in word]
    folder, *more = [word for word in words if "=" not in word] or ["rlhf_ray/base"]
    if more or folder.startswith("-"):
        raise BadInput(f"expected {USAGE}, got {' '.join(words)!r}")
    pretraining = load(Pretraining, "configs/pretrain.yaml", overrides)
    torch.set_num_threads(pretraining.threads)
    corpus = make_base_corpus(pretraining.statements, pretraining.near_misses, pretraining.seed)
    pretrain(corpus, pretraining, Path(folder), Reporter("pretrain"))
    write_base_card(Path(folder), pretraining)


if __name__ == "__main__":
    guarded(lambda: main(*sys.argv[1:]))
