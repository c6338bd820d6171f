"""Train the reward model from thumbs and pairs, or take that of a search, and measure it on what it never saw."""

import json
from pathlib import Path

from rlhf_ray.data.tables import Row
from rlhf_ray.distributed.fit import fit
from rlhf_ray.evaluation.reward import measure
from rlhf_ray.feedback.heldout import read_heldout
from rlhf_ray.feedback.lessons import Lessons
from rlhf_ray.models.folder import fingerprint, resolve
from rlhf_ray.models.loading import check_finite, context_length, load_tokenizer
from rlhf_ray.models.scalar import Scalar
from rlhf_ray.runs import RunConfig
from rlhf_ray.stages import Run, Stage
from rlhf_ray.training.progress import Reporter
from rlhf_ray.training.reward import check_rows, raw_scores, train_reward
from rlhf_ray.training.search import adopt

from jobs.door import perform


def work(run: Run, folder: Path) -> None:
    config, training = run.config, run.config.reward_training
    backbone = resolve(config.base) if training.backbone == "base" else str(run.path("sft").resolve())
    tokenizer, most_tokens = load_tokenizer(backbone), min(training.most_tokens, context_length(backbone))
    lessons, heldout = Lessons.read(run.path("thumbs")), read_heldout(run.path("thumbs"), tokenizer, most_tokens)
    lessons.check(tokenizer, most_tokens)
    if config.searched:
        adopt(run.path(config.searched), folder, on=run.digests(STAGE.reads))
    else:
        train(config, backbone, lessons, folder)
    model = Scalar.load(str(folder))

    def score(rows: list[Row]) -> list[float]:
        return raw_scores(model, tokenizer, rows, most_tokens).tolist()

    metrics = measure(score, heldout.thumbs, heldout.pairs, heldout.probes, lessons.thumbs)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")


def train(config: RunConfig, backbone: str, lessons: Lessons, folder: Path) -> None:
    check_rows(lessons.thumbs, lessons.pairs, lessons.samples)
    arguments = {
        "backbone": backbone,
        "thumbs": lessons.thumbs,
        "pairs": lessons.pairs,
        "samples": lessons.samples,
        "training": config.reward_training,
        "lora": config.adapters,
        "seed": config.seed,
        "report": Reporter("reward"),
    }
    fit(train_reward, arguments, config, folder)
    check_finite(folder)


def backbone_of(config: RunConfig) -> dict[str, str]:
    return {"base": fingerprint(config.base)} if config.reward_training.backbone == "base" else {}


ALSO = RunConfig.searched_stages
STAGE = Stage("reward", ("sft", "thumbs"), ("reward", "lora"), work, resumes=True, outside=backbone_of, also=ALSO)

if __name__ == "__main__":
    perform([STAGE])
