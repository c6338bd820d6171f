"""Train the reward model from thumbs and pairs, and measure it on what it never saw."""

import json
from pathlib import Path

from rlhf_ray.data.tables import Row, read_table
from rlhf_ray.distributed.fit import fit
from rlhf_ray.evaluation.pairs import sides
from rlhf_ray.evaluation.reward import measure
from rlhf_ray.feedback.heldout import read_heldout
from rlhf_ray.feedback.thumbs import read_given
from rlhf_ray.models.loading import check_finite, context_length, fingerprint, load_tokenizer, resolve
from rlhf_ray.models.scalar import Scalar
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage
from rlhf_ray.text import check_pairs
from rlhf_ray.training.progress import Reporter
from rlhf_ray.training.reward import check_rows, raw_scores, train_reward

from jobs.door import perform


def work(run: Run, folder: Path) -> None:
    config = run.config
    backbone = resolve(config.base) if config.reward.backbone == "base" else str(run.path("sft").resolve())
    tokenizer, most_tokens = load_tokenizer(backbone), min(config.reward.most_tokens, context_length(backbone))
    thumbs, pairs = read_given(run.path("thumbs"))
    samples = read_table(run.path("thumbs", "samples.parquet"), ("prompt", "completion"))
    heldout = read_heldout(run.path("thumbs")).fitting(tokenizer, most_tokens)
    check_rows(thumbs, pairs, samples)
    check_pairs(tokenizer, thumbs + samples + heldout.thumbs + sides(pairs + heldout.pairs), most_tokens)
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
    model = Scalar.load(str(folder))

    def score(rows: list[Row]) -> list[float]:
        return raw_scores(model, tokenizer, rows, most_tokens).tolist()

    metrics = measure(score, heldout.thumbs, heldout.pairs, heldout.probes, thumbs)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")


def backbone_of(config: RunConfig) -> dict[str, str]:
    return {"base": fingerprint(config.base)} if config.reward.backbone == "base" else {}


STAGE = Stage("reward", ("sft", "thumbs"), ("reward", "lora"), work, resumes=True, outside=backbone_of)

if __name__ == "__main__":
    perform([STAGE])
