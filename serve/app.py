"""What `configs/serve.yaml` means: which models are served, and how they are put together."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig

from rlhf_ray.config import BadInput, Config, check

from serve.artefact import REWARD, SFT, TUNED, Artefact, artefact, artefact_of_run
from serve.compactor import Compactor
from serve.generation import Generation
from serve.generator_replica import GeneratorReplica
from serve.gold import Gold
from serve.ingress import Doors
from serve.reward import Judging
from serve.reward_replica import RewardReplica
from serve.split import check_split
from serve.versions import Versions

COMPACTOR = "compactor"


class Serving(Config):
    """The application's own settings; hosts, replicas and queues are Ray Serve's, beside them in the file."""

    run: str = Field("none", min_length=1, description="A finished run's folder: its `tuned`, `sft` and `reward`.")
    models: dict[str, str] = Field({}, description="Further generators: a name, and a model folder or hub name.")
    reward: str = Field("run", min_length=1, description="A reward model's folder; run: the run's, if there is one.")
    generation: Generation = Generation()
    judging: Judging = Judging()
    keys: str = Field("none", min_length=1, description="File of API keys; none: this machine only.")
    ledger: str = Field("none", min_length=1, description="Folder of what is said and of votes on it; none: neither.")
    compaction_s: float = Field(60, gt=0, le=86_400, description="Seconds between two compactions of the ledger.")
    versions: str = Field(
        "none", min_length=1, description="File of what was promoted, kept over restarts; none: nothing can be."
    )
    runs: str = Field("runs", min_length=1, description="Folder in which runs must lie that are to be promoted.")
    gold: str = Field(
        "none",
        min_length=1,
        description="Judged answers on which a promoted reward model may not be worse; none: none.",
    )
    split: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        {},
        description="Shares of the people whose requests name no model, by who answers them; none: the first answers.",
    )
    timeout_s: float = Field(60, gt=0, le=3600, description="A request that takes longer is ended with 408.")
    threads: int = Field(1, ge=1, le=256, description="CPU threads of a model's replica. Part of what is computed.")


def build(args: dict[str, JsonValue]) -> Application:
    """The application, for `import_path: serve.app:build`. Raises BadInput where it cannot be served as asked."""
    config = check(Serving, args, "args")
    versions = versions_of(config)
    speakers = {
        name: _deployment(GeneratorReplica, name).bind(name, versions, config.generation, config.threads)
        for name in versions.first
        if name != REWARD
    }
    judged, brought = REWARD in versions.first, (TUNED, REWARD) if config.reward == "run" else (TUNED,)
    judge = _deployment(RewardReplica, REWARD).bind(versions, config.judging, config.threads) if judged else None
    ledger, compactor = _absolute(config.ledger), None
    if ledger != "none":
        slight = {"num_cpus": 0.1}  # a moment a minute
        compactor = _deployment(Compactor, COMPACTOR).options(ray_actor_options=slight)
        compactor = compactor.bind(ledger, config.compaction_s)
    return _deployment(Doors, "doors").bind(
        speakers,
        judge,
        versions,
        promoted=[name for name in brought if name in versions.first],
        runs=_absolute(config.runs),
        gold=gold_of(config, versions),
        split=config.split,
        keys=_absolute(config.keys),
        ledger=ledger,
        compactor=compactor,
        timeout_s=config.timeout_s,
        most_samples=config.generation.room,
    )


def versions_of(config: Serving) -> Versions:
    """What is served, and what was promoted since. Raises BadInput where it is not as it was left, or cannot be."""
    models, reward = generators(config), reward_model(config)
    check_split(config.split, models)
    path = None if config.versions == "none" else Path(_absolute(config.versions))
    versions = Versions(models | ({REWARD: reward} if reward else {}), path)
    for release in versions.book().releases[-1:]:
        for model in release.models.values():
            model.verify()
    return versions


def gold_of(config: Serving, versions: Versions) -> Gold:
    """Raises BadInput where there is nothing in it, or nobody to judge it."""
    if config.gold == "none":
        return Gold()
    if REWARD not in versions.first:
        raise BadInput("gold: expected a server with a reward model, which judges it, got one without")
    return Gold.read(config.gold, versions.first[REWARD], config.judging.most_tokens)


def generators(config: Serving) -> dict[str, Artefact]:
    """What is served by name, the default first: `tuned`, or else the first by its name.

    Raises BadInput where there is nothing, or not what the run left.
    """
    found: dict[str, Artefact] = {}
    if config.run != "none":
        found = {name: artefact_of_run(Path(config.run), name) for name in (TUNED, SFT)}
    for name, folder in config.models.items():
        if not name.isidentifier() or name in (*found, REWARD, COMPACTOR, "doors"):
            raise BadInput(f"models.{name}: expected a name of letters, digits and _ that nothing else has")
        found[name] = artefact(name, folder)
    if not found:
        raise BadInput("args: expected a run or models to serve, got neither")
    return dict(sorted(found.items(), key=lambda each: (each[0] != TUNED, each[0])))


def reward_model(config: Serving) -> Artefact | None:
    if config.reward != "run":
        return artefact(REWARD, config.reward)
    return None if config.run == "none" else artefact_of_run(Path(config.run), REWARD)


def _absolute(path: str) -> str:
    """Replicas may work elsewhere."""
    return path if path == "none" else str(Path(path).resolve())


def _deployment(kind: type, name: str) -> serve.Deployment:
    """With health checks that notice a silent replica within seconds, and a full queue that says so."""
    return serve.deployment(
        name=name,
        health_check_period_s=1,
        health_check_timeout_s=2,
        graceful_shutdown_timeout_s=2,
        max_ongoing_requests=256,
        max_queued_requests=256,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
    )(kind)
