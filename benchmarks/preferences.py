"""A reward model from people's own pairs: `python benchmarks/preferences.py PAIRS [key=value …]`.

PAIRS is a file of preferences, such as a part of hh-rlhf as it comes (JSON lines of `chosen` and `rejected` dialogues).
A small GPT-2 that knows nothing, with a tokenizer made from the chosen texts, learns to write as the chosen do and then
to tell chosen from rejected. It is measured on the prompts that were held out, on three seeds, beside a bag of words
and the longer of the two. The table is printed and written to `benchmarks/results/preferences.md`.
"""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import yaml
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from tables import head, line, share, write
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf_ray.config import load
from rlhf_ray.data.tables import Row, read_table
from rlhf_ray.evaluation import statistics
from rlhf_ray.feedback.sources import read_records
from rlhf_ray.feedback.thumbs import PAIR_COLUMNS
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.pretrain import Pretraining, train_tokenizer

FOLDER = Path("runs/preferences")
CONTEXT = 384
SEEDS = (0, 1, 2)
STAGES = ("synthesize", "train_sft", "collect_thumbs", "train_reward")
COLUMNS = ("seed", "pairs to learn from", "held out", "reward model", "bag of words", "the longer one")
SETTINGS = {
    "folder": str(FOLDER),
    "base": str(FOLDER / "base"),
    "sft": {"epochs": 1, "lr": 2e-3, "most_tokens": CONTEXT},
    "reward": {"epochs": 2, "lr": 5e-4, "most_tokens": CONTEXT},
    "sampling": {"prompt_tokens": 288, "response_tokens": 64},
    "collection": {"samples": 128},
}


def make_base(texts: list[str]) -> None:
    """A random model and a tokenizer for the texts."""
    tokenizer = train_tokenizer(texts, Pretraining(vocabulary=2048, context=CONTEXT))
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=CONTEXT,
            n_embd=128,
            n_layer=2,
            n_head=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(SETTINGS["base"])
    tokenizer.save_pretrained(SETTINGS["base"])


def bag_of_words(given: list[Row], heldout: list[Row]) -> list[bool]:
    """Whether a logistic regression on the difference of the two completions' words finds the chosen one."""
    words = CountVectorizer(max_features=20_000).fit([row[side] for row in given for side in PAIR_COLUMNS[1:]])

    def differences(rows: list[Row]):
        return words.transform([row["chosen"] for row in rows]) - words.transform([row["rejected"] for row in rows])

    learned, signs = differences(given), np.resize([1, -1], len(given))
    fitted = LogisticRegression(C=0.01, fit_intercept=False, max_iter=2000)
    fitted.fit(learned.multiply(signs[:, None]).tocsr(), signs)
    return [bool(score > 0) for score in fitted.decision_function(differences(heldout))]


def row(folder: Path, seed: int) -> str:
    metrics = json.loads((folder / "reward" / "metrics.json").read_text(encoding="utf-8"))
    given, heldout = (
        read_table(folder / "thumbs" / f"{name}.parquet", PAIR_COLUMNS) for name in ("pairs", "heldout_pairs")
    )
    longer = [len(pair["chosen"]) > len(pair["rejected"]) for pair in heldout]
    others = (share(statistics.mean(found)) for found in (bag_of_words(given, heldout), longer))
    return line([str(seed), str(len(given)), str(len(heldout)), share(metrics["pairs"]["accuracy"]), *others])


def main(pairs: str, *words: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_base([record["chosen"] for record in read_records(pairs)])
    config = FOLDER / "run.yaml"
    config.write_text(yaml.safe_dump(SETTINGS | {"data": {"feedback": [pairs], "heldout": 0.2}}), encoding="utf-8")
    rows = []
    for seed in SEEDS:
        said = [f"seed={seed}", *words]
        for job in STAGES:
            subprocess.run([sys.executable, "-m", f"jobs.{job}", str(config), *said], check=True)  # noqa: S603
        rows.append(row(load(RunConfig, config, said).run_folder, seed))
    versions = {name: version(name) for name in ("rlhf-ray", "torch", "transformers", "trl")}
    write("preferences", [Path(pairs).name, *words], {"versions": versions}, [*head(COLUMNS), *rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
