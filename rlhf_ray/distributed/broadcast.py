"""Weights to all samplers at once, beside the object store.

The store stays the truth: what the learner sends is also its answer, which lies there for whoever did not hear it. So
a sampler that restarts heals by the ordinary way, and the channel is opened anew before the next sending. Nobody in
this process waits: calls to one actor follow each other, and so a sampler receives before it is next asked to speak.
"""

import logging
from collections.abc import Sequence
from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError

from rlhf_ray.distributed.connection import wait_for
from rlhf_ray.distributed.rendezvous import free_place, use_own_interface
from rlhf_ray.weights import LocalWeights
from rlhf_ray.workers.channel import Channel

log = logging.getLogger(__name__)


class Broadcast:
    """From a learner to the samplers that are hired by then.

    Half of the deadline is the channel's; the other half remains for the ordinary way.
    """

    def __init__(self, device: str, deadline_s: float) -> None:
        self.device, self.deadline_s = device, deadline_s
        self.samplers: Sequence[ActorHandle] = ()
        self._heard: list[ObjectRef] = []
        self._is_open = False

    def send(self, learner: ActorHandle) -> ObjectRef:
        """The learner's weights, in the store as soon as they are sent."""
        if not self.samplers:
            return learner.weights.remote()
        if not self._is_open or not self._all_heard():
            self._open(learner)
        sent = learner.__ray_call__.remote(send)
        self._heard = [sampler.__ray_call__.remote(receive) for sampler in self.samplers]
        return sent

    def _open(self, learner: ActorHandle) -> None:
        (place,) = wait_for([learner.__ray_call__.remote(free_place)], "learner 0", self.deadline_s)
        for rank, actor in enumerate([learner, *self.samplers]):
            where = (place, rank, 1 + len(self.samplers), self.device, self.deadline_s / 2)
            actor.__ray_call__.remote(tune_in, *where)
        self._is_open = True

    def _all_heard(self) -> bool:
        """Whether the last sending reached all samplers. One that is still at it has lost or is late: it is no more."""
        done, late = ray.wait(self._heard, num_returns=len(self._heard), timeout=self.deadline_s)
        try:
            return not late and all(ray.get(done, timeout=self.deadline_s))
        except RayError:  # a sampler that died for good; who asks it to speak will say so
            return False


def tune_in(worker: Any, place: str, rank: int, size: int, device: str, deadline_s: float) -> None:
    """Runs in the actor of a learner or sampler."""
    worker.channel = None  # the old one's connections end here
    use_own_interface()
    try:
        worker.channel = Channel(place, rank, size, device, deadline_s)
    except RuntimeError as error:
        _give_up(worker, error)


def send(learner: Any) -> LocalWeights:
    """Runs in the learner's actor. The weights are its answer whether the channel carries them or not."""
    weights = learner.weights()
    if channel := getattr(learner, "channel", None):
        try:
            channel.send(weights)
        except RuntimeError as error:
            _give_up(learner, error)
    return weights


def receive(sampler: Any) -> bool:
    """Runs in a sampler's actor: whether the weights came. One that began anew after `tune_in` has no channel."""
    channel = getattr(sampler, "channel", None)
    if channel is None:
        return False
    try:
        sampler.load(channel.receive())
    except (RuntimeError, ValueError) as error:  # nobody sent, or what came is not what was sent
        _give_up(sampler, error)
        return False
    return True


def _give_up(worker: Any, error: Exception) -> None:
    """From here on the object store, until the channel is opened anew."""
    worker.channel = None
    log.warning("weights: the channel is lost, the object store serves (%s)", str(error).splitlines()[0])
