"""Train the reward model from thumbs, and measure it on thumbs without noise."""

import json
from pathlib import Path

from rlhf_ray.data.tables import read_table
from rlhf_ray.distributed.fit import fit
from rlhf_ray.evaluation.reward import measure
from rlhf_ray.feedback.thumbs import COLUMNS, read_thumbs
from rlhf_ray.models.loading import check_finite, context_length, load_tokenizer
from rlhf_ray.models.scalar import Scalar
from rlhf_ray.stages import Run, Stage
from rlhf_ray.text import check_pairs
from rlhf_ray.training.progress import Reporter
from rlhf_ray.training.reward import raw_scores, train_reward

from jobs.door import perform


def work(run: Run, folder: Path) -> None:
    config = run.config
    sft, thumbs = str(run.path("sft").resolve()), read_thumbs(run.path("thumbs", "thumbs.parquet"))
    samples = read_table(run.path("thumbs", "samples.parquet"), ("prompt", "completion"))
    check_pairs(load_tokenizer(sft), thumbs + samples, min(config.reward.most_tokens, context_length(sft)))
    arguments = {
        "sft": sft,
        "thumbs": thumbs,
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


STAGE = Stage("reward", reads=("sft", "thumbs"), settings=("reward", "lora"), work=work)

if __name__ == "__main__":
    perform([STAGE])
