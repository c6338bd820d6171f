"""The shipped base is what its job made: its digest is in its card, and a rerun begins with the same losses."""

import json
from pathlib import Path

import pytest
import torch

import rlhf_ray
from rlhf_ray.config import load
from rlhf_ray.durable import file_digest
from rlhf_ray.training.pretrain import Pretraining

ROOT = Path(__file__).parent.parent.parent
BASE = Path(rlhf_ray.__file__).parent / "base"


def test_the_digest_is_in_the_card():
    assert file_digest(BASE / "model.safetensors") in (BASE / "README.md").read_text(encoding="utf-8")


def test_it_is_small():
    assert sum(path.stat().st_size for path in BASE.rglob("*") if path.is_file()) < 8_000_000
    facts = json.loads((BASE / "losses.json").read_text(encoding="utf-8"))
    assert 1_000_000 <= facts["parameters"] <= 3_000_000


def test_it_loads_in_plain_transformers_and_writes():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(BASE), AutoTokenizer.from_pretrained(BASE)
    assert model.dtype == torch.bfloat16
    prompt = "Provide a Root Cause Analysis for the recent API latency spike in checkout.\n"
    inputs = tokenizer(prompt, return_tensors="pt")
    torch.manual_seed(0)
    output = model.generate(**inputs, max_new_tokens=80)
    assert len(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).split()) > 5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_rerun_begins_with_the_same_losses(tmp_path):
    from rlhf_ray.incidents.world import make_base_corpus
    from rlhf_ray.training.pretrain import pretrain

    pretraining = load(Pretraining, ROOT / "configs" / "pretrain.yaml")

    corpus = make_base_corpus(pretraining.statements, pretraining.near_misses, pretraining.seed)
    losses = pretrain(corpus, pretraining, tmp_path, lambda *said: None, stop_after=5)
    shipped = json.loads((BASE / "losses.json").read_text(encoding="utf-8"))["first_losses"]
    # Sums in another order, as another CPU or number of threads makes them, move a float32 loss by far less than this.
    assert losses == pytest.approx(shipped[:5], rel=1e-4)
