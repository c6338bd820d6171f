"""Make the base model that ships with the package: `python -m jobs.pretrain [FOLDER] [key=value …]`."""

import sys
from pathlib import Path

import torch

from rlhf_ray.config import load
from rlhf_ray.evaluation.cards import write_base_card
from rlhf_ray.incidents.world import make_base_corpus
from rlhf_ray.training.pretrain import Pretraining, pretrain
from rlhf_ray.training.progress import Reporter

from jobs.door import guarded


def main(folder: str = "rlhf_ray/base", *overrides: str) -> None:
    pretraining = load(Pretraining, "configs/pretrain.yaml", list(overrides))
    torch.set_num_threads(pretraining.threads)
    corpus = make_base_corpus(pretraining.statements, pretraining.near_misses, pretraining.seed)
    pretrain(corpus, pretraining, Path(folder), Reporter("pretrain"))
    write_base_card(Path(folder), pretraining)


if __name__ == "__main__":
    guarded(lambda: main(*sys.argv[1:]))
