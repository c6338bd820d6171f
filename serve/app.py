"""What `configs/serve.yaml` means: which models are served, and how they are put together."""

from pathlib import Path

from pydantic import Field, JsonValue
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig

from rlhf_ray.config import BadInput, Config, check

from serve.artefact import Artefact, artefact
from serve.compactor import Compactor
from serve.deployments import Doors, GeneratorReplica, RewardReplica
from serve.engine import Generation
from serve.reward import Judging

TUNED, SFT, REWARD, COMPACTOR = "tuned", "sft", "reward", "compactor"


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
    timeout_s: float = Field(60, gt=0, le=3600, description="A request that takes longer is ended with 408.")
    threads: int = Field(1, ge=1, le=256, description="CPU threads of a model's replica. Part of what is computed.")


def build(args: dict[str, JsonValue]) -> Application:
    """The application, for `import_path: serve.app:build`. Raises BadInput where it cannot be served as asked."""
    config = check(Serving, args, "args")
    models, reward = generators(config), reward_model(config)
    places = {"keys": config.keys, "ledger": config.ledger}
    config = config.model_copy(
        update={name: path if path == "none" else str(Path(path).resolve()) for name, path in places.items()}
    )
    speakers = {
        name: _deployment(GeneratorReplica, name).bind(model, config.generation, config.threads)
        for name, model in models.items()
    }
    judge = _deployment(RewardReplica, REWARD).bind(reward, config.judging, config.threads) if reward else None
    compactor = None
    if config.ledger != "none":
        slight = {"num_cpus": 0.1}  # a moment a minute
        compactor = (
            _deployment(Compactor, COMPACTOR).options(ray_actor_options=slight).bind(config.ledger, config.compaction_s)
        )
    return _deployment(Doors, "doors").bind(
        speakers, judge, models, reward, config.keys, config.ledger, compactor, config.timeout_s
    )


def generators(config: Serving) -> dict[str, Artefact]:
    """What is served by name, the default first: `tuned`, or else the first by its name.

    Raises BadInput where there is nothing, or not what the run left.
    """
    found: dict[str, Artefact] = {}
    if config.run != "none":
        run = Path(config.run)
        found[TUNED] = artefact(TUNED, str(run / "ppo" / "policy"), stage=run / "ppo")
        found[SFT] = artefact(SFT, str(run / "sft"), stage=run / "sft")
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
    if config.run == "none":
        return None
    return artefact(REWARD, str(Path(config.run) / "reward"), stage=Path(config.run) / "reward")


def _deployment(kind: type, name: str) -> serve.Deployment:
    """With health checks that notice a silent replica within seconds, and a full queue that says so."""
    return serve.deployment(
        name=name,
        health_check_period_s=2,
        health_check_timeout_s=5,
        graceful_shutdown_timeout_s=2,
        max_ongoing_requests=256,
        max_queued_requests=256,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
    )(kind)
