"""What a model of a billion parameters and more would need, by arithmetic: `python benchmarks/scale_plan.py`.

Prints the tables that stand in `docs/scale.md`; a test holds the two together. Nothing here was measured on a GPU: the
rates of one are those of its data sheet times the share of them that such work usually reaches.
"""

from collections.abc import Iterator
from dataclasses import dataclass

GB = 1e9
FLOAT, HALF = 4, 2  # bytes
ADAMW = 16  # bytes a parameter that learns: float32 weight, gradient and two moments
MODELS_THAT_LEARN = 2  # policy and critic
TOKENS_AT_ONCE = 8192  # that go through a learner's models together; activations are kept for so many
LOGITS_AT_ONCE = 1024  # tokens whose logits exist together
ACTIVATIONS_OF_A_LAYER = 34  # bytes a token and width, in half precision (arXiv:2205.05198)


@dataclass(frozen=True)
class Machine:
    """A GPU with its share of a host. Rates in operations and bytes a second."""

    memory: float = 80 * GB
    flops: float = 989e12  # bf16, dense
    bandwidth: float = 3350 * GB
    network: float = 50 * GB  # of a host of 8 GPUs, to the other hosts
    nvlink: float = 450 * GB  # of a GPU, to the others of its host
    gpus_of_a_host: int = 8
    copy: float = 10 * GB  # of a host's memory, by one thread
    digest: float = 1 * GB  # BLAKE2b, by one thread
    learning_share: float = 0.4  # of the operations that forward and backward passes reach
    decoding_share: float = 0.5  # of the bandwidth that decoding reaches


@dataclass(frozen=True)
class Model:
    """A Llama: grouped-query attention and a gated MLP."""

    layers: int
    width: int
    kv_width: int
    mlp: int
    vocabulary: int
    tied: bool

    @property
    def parameters(self) -> float:
        layer = 2 * self.width**2 + 2 * self.width * self.kv_width + 3 * self.width * self.mlp + 2 * self.width
        return self.layers * layer + self.vocabulary * self.width * (1 if self.tied else 2) + self.width

    @property
    def cache_of_a_token(self) -> float:
        return 2 * self.layers * self.kv_width * HALF


@dataclass(frozen=True)
class Job:
    """What an iteration does: episodes for each sampler, and their lengths in tokens."""

    episodes: int = 128
    prompt: int = 256
    response: int = 256
    epochs: int = 1

    @property
    def tokens(self) -> int:
        """Of an episode."""
        return self.prompt + self.response


H100 = Machine()
MODELS = {
    "1B": Model(16, 2048, 512, 8192, 128_256, tied=True),  # as Llama 3.2 1B
    "8B": Model(32, 4096, 1024, 14_336, 128_256, tied=False),  # as Llama 3.1 8B
}
JOB = Job()
CLUSTERS = ((1, 1), (4, 4), (8, 16), (16, 16), (16, 32), (64, 16), (64, 64))  # samplers (and scorers), learners
PHASES = ("generate", "score", "estimate", "update", "weights")


def memory(model: Model, job: Job, learners: int) -> dict[str, dict[str, float]]:
    """Bytes of each role on its GPU. Learners split weights, gradients and moments; activations are recomputed."""
    p, w = model.parameters, model.width
    kept = HALF * w * model.layers * TOKENS_AT_ONCE + ACTIVATIONS_OF_A_LAYER * w * TOKENS_AT_ONCE
    return {
        "sampler": {"weights": HALF * p, "KV cache": job.episodes * job.tokens * model.cache_of_a_token},
        "scorer": {"weights": 2 * HALF * p},  # reference and reward model
        "learner": {
            "weights": MODELS_THAT_LEARN * FLOAT * p / learners,
            "gradients": MODELS_THAT_LEARN * FLOAT * p / learners,
            "AdamW": MODELS_THAT_LEARN * 2 * FLOAT * p / learners,
            "activations": MODELS_THAT_LEARN * kept + 2 * FLOAT * model.vocabulary * LOGITS_AT_ONCE,
        },
    }


def fewest_learners(model: Model, job: Job, machine: Machine, *, apart: bool) -> int:
    """Learners among which the models are to be split so that each fits, on a GPU `apart` or beside the other roles."""
    for learners in range(1, 1025):
        roles = memory(model, job, learners)
        need = roles["learner"] if apart else {role: sum(parts.values()) for role, parts in roles.items()}
        if sum(need.values()) <= machine.memory:
            return learners
    raise ValueError(f"no number of learners fits {machine.memory / GB:g} GB")


def traffic(model: Model, job: Job, samplers: int) -> dict[str, float]:
    """Bytes an iteration: of the weights to all samplers, and of what passes through the controller.

    A prompt token is 9 bytes (number and mask), a response token 13 (with its log-probability). Prompts go out;
    rollouts come in, go to the scorers, come back with 4 bytes a token more and go to the learners; 8 bytes of
    estimates a response token come back; the experience goes out with 20 bytes a response token on top of its rollout.
    """
    prompt, rollout = 9 * job.prompt, 9 * job.prompt + 13 * job.response
    through = prompt + 4 * rollout + 4 * job.response + 8 * job.response + rollout + 20 * job.response
    return {
        "weights": samplers * FLOAT * model.parameters,
        "controller": samplers * job.episodes * through,
    }


def seconds(model: Model, job: Job, machine: Machine, samplers: int, learners: int) -> dict[str, float]:
    """What each phase of an iteration takes. Every sampler has its own scorer; weights go by a collective."""
    p, episodes = model.parameters, job.episodes
    a_step = HALF * p + episodes * (job.prompt + job.response / 2) * model.cache_of_a_token
    operations = machine.flops * machine.learning_share
    share = samplers * episodes * job.tokens / learners  # tokens of a learner
    return {
        "generate": job.response * a_step / (machine.bandwidth * machine.decoding_share)
        + 2 * p * episodes * job.prompt / operations,
        "score": 2 * 2 * p * episodes * job.tokens / operations,
        "estimate": MODELS_THAT_LEARN * 2 * p * share / operations,
        "update": job.epochs * MODELS_THAT_LEARN * 8 * p * share / operations,  # the forward pass is done twice
        "weights": HALF * p / machine.network,  # a ring or a tree passes them on at the speed of one connection
    }


def through_the_store(model: Model, machine: Machine, samplers: int) -> float:
    """Seconds that the weights take in one float32 buffer, packed and digested, and so again where they arrive.

    Every host of samplers reads it from the learner's host, one after the other.
    """
    hosts = -(-samplers // machine.gpus_of_a_host)
    size = FLOAT * model.parameters
    return size * (2 / machine.copy + 2 / machine.digest + (hosts - 1) / machine.network)


def shared_step(model: Model, machine: Machine) -> dict[str, float]:
    """Seconds of learners that have split the models, for TOKENS_AT_ONCE each: computing, and what they exchange.

    Weights are gathered in bf16 for the forward and for the backward pass; gradients are summed in float32.
    """
    exchanged = MODELS_THAT_LEARN * (2 * HALF + FLOAT) * model.parameters
    operations = MODELS_THAT_LEARN * 8 * model.parameters * TOKENS_AT_ONCE
    return {
        "computing": operations / (machine.flops * machine.learning_share),
        "within a host": exchanged / machine.nvlink,
        "over hosts": exchanged / machine.network,
    }


def iteration(spent: dict[str, float], lead: int) -> float:
    """Seconds of an iteration: one phase after the other, or with a lead of 1 rollouts beside the update."""
    rollout = spent["generate"] + spent["score"]
    learning = spent["estimate"] + spent["update"]
    return spent["weights"] + (max(rollout, learning) if lead else rollout + learning)


def of_memory() -> Iterator[list[str]]:
    kinds = ("weights", "gradients", "AdamW", "activations", "KV cache")
    yield ["model", "role", "split over", *kinds, "together, GB"]
    for name, model in MODELS.items():
        learners = fewest_learners(model, JOB, H100, apart=True)
        for role, parts in memory(model, JOB, learners).items():
            figures = [f"{parts[kind] / GB:.1f}" if kind in parts else "" for kind in kinds]
            split = str(learners) if role == "learner" else "1"
            yield [name, role, split, *figures, f"{sum(parts.values()) / GB:.1f}"]


def of_time() -> Iterator[list[str]]:
    """Of each cluster both ways: roles that share their GPUs and take turns, and roles with GPUs of their own."""
    ways = ("shared, lead 0: s", "episodes/s a GPU", "apart, lead 1: s", "episodes/s a GPU")
    yield ["model", "samplers", "learners", *PHASES, *ways]
    for name, model in MODELS.items():
        for samplers, learners in CLUSTERS:
            spent = seconds(model, JOB, H100, samplers, learners)
            told: list[str] = []
            for lead, gpus in enumerate((max(samplers, learners), samplers + learners)):
                fits = learners >= fewest_learners(model, JOB, H100, apart=bool(lead))
                whole = iteration(spent, lead)
                told += [f"{whole:.1f}", f"{samplers * JOB.episodes / whole / gpus:.1f}"] if fits else ["too large", ""]
            yield [name, str(samplers), str(learners), *(f"{spent[phase]:.2f}" for phase in PHASES), *told]


def of_traffic() -> Iterator[list[str]]:
    stored, passed = "weights in float32 to all samplers, GB", "through the object store, s"
    yield ["model", "samplers", stored, passed, "by a collective in bf16, s", "rollouts through the controller, GB"]
    for name, model in MODELS.items():
        for samplers in (1, 8, 64):
            moved, stored_s = traffic(model, JOB, samplers), through_the_store(model, H100, samplers)
            collective_s = seconds(model, JOB, H100, samplers, samplers)["weights"]
            times = [f"{stored_s:.1f}", f"{collective_s:.2f}"]
            yield [name, str(samplers), f"{moved['weights'] / GB:.1f}", *times, f"{moved['controller'] / GB:.3f}"]


def of_sharing() -> Iterator[list[str]]:
    yield ["model", f"computing on {TOKENS_AT_ONCE} tokens, s", "exchange within a host, s", "exchange over hosts, s"]
    for name, model in MODELS.items():
        yield [name, *(f"{each:.2f}" for each in shared_step(model, H100).values())]


def tables() -> list[str]:
    """The tables in Markdown, in the order of the document."""
    return ["\n".join(_table(list(rows))) for rows in (of_memory(), of_time(), of_traffic(), of_sharing())]


def _table(rows: list[list[str]]) -> Iterator[str]:
    for place, cells in enumerate(rows):
        yield f"| {' | '.join(cells)} |"
        if place == 0:
            yield "|" + "---:|" * len(cells)


if __name__ == "__main__":
    print("\n\n".join(tables()))
