"""Supervised training under Ray Train: the same function that runs alone runs on every worker."""

import contextlib
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from rlhf_ray.alarm import Tripped
from rlhf_ray.config import BadInput
from rlhf_ray.distributed.connection import check_resources, connect, environment
from rlhf_ray.runs import RunConfig

MISTAKE = "mistake-"  # the file in which a worker leaves what it must not go on after


def fit(work: Callable[..., None], arguments: dict[str, Any], config: RunConfig, folder: Path) -> None:
    """Run `work(**arguments, folder=…)`, which writes a model there, on the cluster's learners; bring it to `folder`.

    Without a cluster it runs here. On several workers each gets its share of the rows (transformers and DDP see to it).
    Raises BadInput or Tripped where the work does.
    """
    cluster = config.cluster
    if cluster == "none":
        torch.set_num_threads(config.threads)
        work(**arguments, folder=str(folder))
        return
    connect()
    check_resources(cluster)
    from ray.train import Checkpoint, FailureConfig, ScalingConfig, get_context, report
    from ray.train import RunConfig as TrainRun
    from ray.train.torch import TorchConfig, TorchTrainer

    def loop(arguments: dict[str, Any]) -> None:
        torch.set_num_threads(config.threads)
        rank = get_context().get_world_rank()
        with tempfile.TemporaryDirectory() as result:
            try:
                work(**arguments, folder=result)
            except (BadInput, Tripped) as mistake:  # Ray Train would try again, and then say it in a traceback
                (storage / f"{MISTAKE}{rank}").write_bytes(pickle.dumps(mistake))
                return
            report({}, checkpoint=Checkpoint.from_directory(result) if rank == 0 else None)

    with tempfile.TemporaryDirectory(dir=folder, prefix=".ray-train-") as place:
        storage = Path(place).resolve()
        trainer = TorchTrainer(
            loop,
            train_loop_config=arguments,
            torch_config=TorchConfig(backend="nccl" if cluster.gpus_each else "gloo", timeout_s=60),
            scaling_config=ScalingConfig(
                num_workers=cluster.learners,
                use_gpu=bool(cluster.gpus_each),
                resources_per_worker={"CPU": cluster.threads_each, "GPU": cluster.gpus_each},
            ),
            run_config=TrainRun(
                name=work.__name__,
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=2),
                worker_runtime_env=environment(cluster),
            ),
        )
        with _our_ctrl_c():
            result = trainer.fit()
        for mistake in sorted(storage.glob(f"{MISTAKE}*")):
            raise pickle.loads(mistake.read_bytes())  # noqa: S301  (our own worker wrote it)
        result.checkpoint.to_directory(str(folder))


@contextlib.contextmanager
def _our_ctrl_c() -> Iterator[None]:
    """Ray Train puts a handler of its own on Ctrl-C, leaves it there, and ends the process with 0. We want to know."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, handler)
