"""Train the reward model from thumbs and pairs, and measure it on thumbs without noise."""

import json
from pathlib import Path

from rlhf_ray.data.tables import read_table
from rlhf_ray.distributed.fit import fit
from rlhf_ray.evaluation.reward import measure
from rlhf_ray.feedback.thumbs import COLUMNS, read_thumbs
from rlhf_ray.models.loading import check_finite, context_length, fingerprint, load_tokenizer, resolve
from rlhf_ray.models.scalar import Scalar
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage
from rlhf_ray.text import as_completions, check_pairs
from rlhf_ray.training.progress import Reporter
from rlhf_ray.training.reward import raw_scores, train_reward

from jobs.door import perform

PAIR_COLUMNS = ("prompt", "chosen", "rejected", "margin")


def work(run: Run, folder: Path) -> None:
    config = run.config
    backbone = resolve(config.base) if config.reward.backbone == "base" else str(run.path("sft").resolve())
    thumbs, pairs = read_thumbs(run.path("thumbs", "thumbs.parquet")), []
    if run.path("thumbs", "pairs.parquet").is_file():
        pairs = read_table(run.path("thumbs", "pairs.parquet"), PAIR_COLUMNS)
    samples = read_table(run.path("thumbs", "samples.parquet"), ("prompt", "completion"))
    texts = thumbs + samples + as_completions(pairs, "chosen") + as_completions(pairs, "rejected")
    check_pairs(load_tokenizer(backbone), texts, min(config.reward.most_tokens, context_length(backbone)))
    arguments = {
        "backbone": backbone,
        "thumbs": thumbs,
        "pairs": pairs,
        "samples": samples,
        "training": config.reward,
        "lora": config.adapters,
        "seed": config.seed,
        "report": Reporter("reward"),
    }
    fit(train_reward, arguments, config, folder)
    check_finite(folder)
    heldout = read_table(run.path("thumbs", "heldout.parquet"), (*COLUMNS, "kind"))
    model, tokenizer = Scalar.load(str(folder)), load_tokenizer(str(folder))
    metrics = measure(heldout, raw_scores(model, tokenizer, heldout, config.reward.most_tokens).tolist())
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")


def backbone_of(config: RunConfig) -> dict[str, str]:
    return {"base": fingerprint(config.base)} if config.reward.backbone == "base" else {}


STAGE = Stage("reward", ("sft", "thumbs"), ("reward", "lora"), work, resumes=True, outside=backbone_of)

if __name__ == "__main__":
    perform([STAGE])
