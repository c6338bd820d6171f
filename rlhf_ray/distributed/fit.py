"""Supervised training under Ray Train: the same function that runs alone runs on every worker.

One that was killed, a worker of it or the whole job, goes on from its newest savepoint.
"""

import contextlib
import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import torch

from rlhf_ray.alarm import Tripped
from rlhf_ray.config import BadInput
from rlhf_ray.distributed.connection import connect, environment
from rlhf_ray.distributed.placement import Seat, check_room
from rlhf_ray.distributed.rendezvous import torch_config
from rlhf_ray.runs import Cluster, RunConfig
from rlhf_ray.stages import scratch_of
from rlhf_ray.training.savepoints import OnDisk

MISTAKE = "mistake-"  # the file in which a worker leaves what it must not go on after
RESULT = "result"  # in the last of Ray Train's checkpoints: what the work wrote


def fit(work: Callable[..., None], arguments: dict[str, Any], config: RunConfig, folder: Path) -> None:
    """Run `work(**arguments, folder=…, savepoints=…)` on the cluster's learners; bring what it writes to `folder`.

    Without a cluster it runs here. On several workers each gets its share of the rows (transformers and DDP see to it).
    Raises BadInput or Tripped where the work does.
    """
    scratch = scratch_of(folder).resolve()
    if config.cluster == "none":
        torch.set_num_threads(config.threads)
        work(**arguments, folder=str(folder), savepoints=OnDisk(scratch / "savepoints"))
        return
    connect()
    _check_room(config.cluster)
    threads, storage = config.cluster.fitting_threads, scratch / "ray-train"
    storage.mkdir(parents=True, exist_ok=True)

    def loop() -> None:  # brings its arguments along: as Ray Train's config its controller would import what they need
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as place:
            savepoints = Reported(Path(place))
            if savepoints.has_result():
                return
            try:
                work(**arguments, folder=str(savepoints.result), savepoints=savepoints)
            except (BadInput, Tripped) as mistake:  # Ray Train would try again, and then say it in a traceback
                _mistake_of(storage).write_bytes(pickle.dumps(mistake))
                return
            savepoints.keep(savepoints.result.parent)

    trainer = _trainer(loop, config.cluster, work.__name__, storage)
    with _our_ctrl_c():
        result = trainer.fit()
    for path in sorted(storage.glob(f"{MISTAKE}*")):
        mistake = pickle.loads(path.read_bytes())  # noqa: S301  (our own worker wrote it)
        shutil.rmtree(storage)
        raise mistake
    with result.checkpoint.as_directory() as found:
        shutil.copytree(Path(found, RESULT), folder, dirs_exist_ok=True)


class Reported:
    """Savepoints that Ray Train keeps: it brings the newest to each worker, on whichever machine that runs."""

    def __init__(self, place: Path) -> None:
        from ray.train import get_checkpoint

        self.workplace = place / "being-written"
        self.result = place / "finished" / RESULT
        self.result.mkdir(parents=True)
        found = get_checkpoint()
        self._newest = Path(found.to_directory(place / "newest")) if found else None

    def newest(self) -> Path | None:
        return self._newest

    def keep(self, checkpoint: Path) -> None:
        """Each worker has written a part of it. Returns when Ray Train has them all."""
        from ray.train import Checkpoint, report

        has_part = any(path.is_file() for path in checkpoint.rglob("*"))
        report({}, checkpoint=Checkpoint.from_directory(checkpoint) if has_part else None)
        shutil.rmtree(checkpoint)

    def has_result(self) -> bool:
        """Whether the job was killed when the work was done already."""
        return self._newest is not None and (self._newest / RESULT).is_dir()


def _check_room(cluster: Cluster) -> None:
    """Raises BadInput where the cluster is too small."""
    needs = {"CPU": cluster.fitting_threads, "GPU": cluster.gpus_each}
    threads = "fit_threads" if cluster.fit_threads else "threads_each"
    check_room(cluster, [Seat(needs, cluster.learn_on, learns=True)] * cluster.learners, threads=threads)


def _trainer(loop: Callable[[], None], cluster: Cluster, name: str, storage: Path) -> Any:
    """Ray Train, which goes on from what an earlier one of this name left in the storage.

    It does without its watcher, a process more, which would tell a training of machines that are about to go: what is
    trained here does not listen, and goes on from its savepoint wherever there is room.
    """
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    return TorchTrainer(
        loop,
        torch_config=torch_config("nccl" if cluster.gpus_each else "gloo", timeout_s=ceil(cluster.deadline_s)),
        scaling_config=ScalingConfig(
            num_workers=cluster.learners,
            use_gpu=bool(cluster.gpus_each),
            resources_per_worker={"CPU": cluster.fitting_threads, "GPU": cluster.gpus_each},
            label_selector=cluster.learn_on or None,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=str(storage),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=2),
            worker_runtime_env=environment(cluster, cluster.fitting_threads),
        ),
    )


def _mistake_of(storage: Path) -> Path:
    from ray.train import get_context

    return storage / f"{MISTAKE}{get_context().get_world_rank()}"


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
