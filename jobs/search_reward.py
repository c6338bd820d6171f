"""Search better hyper-parameters for the reward model, on the run's thumbs. A stopped search goes on."""

import json
from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.distributed.search import confirm, search_space
from rlhf_ray.evaluation.trials import conclude, rows_of, write_models, write_trials
from rlhf_ray.feedback.lessons import Lessons
from rlhf_ray.feedback.probes import read_probes
from rlhf_ray.models.folder import fingerprint, resolve
from rlhf_ray.models.loading import context_length, load_tokenizer
from rlhf_ray.runs import Cluster, RunConfig
from rlhf_ray.stages import Run, Stage, scratch_of
from rlhf_ray.training.search import RESULT, Search, stage_of
from rlhf_ray.training.space import reachable
from rlhf_ray.training.trial import Task
from rlhf_ray.training.validation import split

from jobs import collect_thumbs, synthesize, train_sft
from jobs.door import perform

READS = ("sft", "thumbs")


def search_reward(run: Run, folder: Path) -> None:
    (search, cluster), seed = wanted(run.config), run.config.seed
    task = task_of(run, search, scratch_of(folder).resolve() / "trials")
    has_raters = len({row.get("rater") for row in task.lessons.thumbs}) > 1
    space = reachable(search.space, has_base=run.config.sft != "none", has_raters=has_raters)
    trials = search_space(task, search, space, seed, grows=cluster.grows)
    again = confirm(task, search, trials, seed)
    write_trials(folder, rows_of(trials, {key: getattr(task.training, key) for key in space}))
    write_models(folder, task, trials, search.keep)
    result = conclude(task, trials, again, search.keep) | {"on": run.digests(READS)}
    (folder / RESULT).write_text(json.dumps(result, indent=2), encoding="utf-8")


def task_of(run: Run, search: Search, folder: Path) -> Task:
    """What all trials have in common. Raises BadInput where a text is too long for them."""
    config, sft, lessons = run.config, str(run.path("sft").resolve()), Lessons.read(run.path("thumbs"))
    tokenizer, most_tokens = load_tokenizer(sft), min(config.first_training.most_tokens, context_length(sft))
    lessons.check(tokenizer, most_tokens)
    probes = read_probes(run.path("thumbs", "validation_probes.parquet"), tokenizer, most_tokens)
    divided = split(lessons, probes, search.validation, config.seed)
    backbones = {"sft": sft, "base": resolve(config.base)}
    return Task(str(folder), backbones, config.first_training, config.adapters, *divided, search.threads_each)


def wanted(config: RunConfig) -> tuple[Search, Cluster]:
    if config.search == "none":
        raise BadInput("search: expected a search, such as that of configs/reward/search.yaml, got none")
    if config.cluster == "none":
        raise BadInput("cluster: expected a cluster, since a search runs on Ray, got none")
    return config.search, config.cluster


def stages_of(config: RunConfig) -> list[Stage]:
    """The search, and before it what it needs. How many trials run at once, and where, is none of its settings."""
    (search, _), base = wanted(config), fingerprint(config.base)
    settings = search.model_dump_json(exclude={"concurrent", "threads_each", "gpus_each"})
    outside = {"search": settings, "training": config.first_training.model_dump_json(), "base": base}
    own = Stage(stage_of(search.name), READS, ("lora", "sft"), search_reward, True, outside=lambda _: outside)
    return [synthesize.STAGE, train_sft.STAGE, collect_thumbs.STAGE, own]


if __name__ == "__main__":
    perform(stages_of)
