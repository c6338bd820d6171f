"""Seats: reserved places on machines. Actors of several roles share one, since they take turns there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rlhf_ray.config import BadInput
from rlhf_ray.distributed.connection import wait_for
from rlhf_ray.runs import Cluster, RunConfig


@dataclass(frozen=True)
class Seat:
    """What a seat takes, the labels that its machine must have, and whether a learner sits there."""

    needs: dict[str, float]
    labels: dict[str, str]
    learns: bool


@dataclass(frozen=True)
class Machine:
    """What a machine of the cluster has in all. `node` is Ray's name for it."""

    node: str
    address: str
    resources: dict[str, float]
    labels: dict[str, str]

    def holds(self, seat: Seat) -> int:
        """How many seats like this one fit on it. A part of a GPU is always a part of one GPU."""
        if any(self.labels.get(name) != value for name, value in seat.labels.items()):
            return 0
        rooms = [_times(kind, each, self.resources.get(kind, 0)) for kind, each in seat.needs.items() if each]
        return min(rooms)


def plan(config: RunConfig, cluster: Cluster, there: Sequence[Machine]) -> list[Seat]:
    """The seats of a run, by their numbers, on the machines that are there.

    Learners that improve while others speak have seats of their own. Where only CPUs are shared and there is no room
    for those, they take turns with the others, as they do without a lead.
    """
    own = _plan(cluster, config.speaking_seats, config.first_learning_seat)
    can_share = not (cluster.gpus_each or cluster.learn_on or cluster.speak_on or cluster.grows)
    return _plan(cluster, config.speaking_seats, 0) if can_share and lack(own, there) else own


def _plan(cluster: Cluster, speaking: int, first: int) -> list[Seat]:
    """Those who speak sit on the first seats, and learners from number `first` on."""
    needs, learning = needs_of(cluster), range(first, first + cluster.learners)
    return [
        Seat(needs, cluster.learn_on if number in learning else cluster.speak_on, number in learning)
        for number in range(max(speaking, learning.stop))
    ]


def needs_of(cluster: Cluster) -> dict[str, float]:
    """What every seat takes."""
    return {"CPU": cluster.threads_each, "GPU": cluster.gpus_each}


def machines() -> list[Machine]:
    """Those that are alive."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    return [Machine(node["NodeID"], node["NodeManagerAddress"], node["Resources"], node["Labels"]) for node in alive]


def check_room(
    cluster: Cluster, seats: Sequence[Seat], section: str = "cluster", threads: str = "threads_each"
) -> None:
    """Raises BadInput, naming the config's section and key, where the machines together have no room for all seats.

    Nobody waits for what never comes. A cluster that grows is asked instead.
    """
    if not cluster.grows and (said := lack(seats, machines(), threads)):
        raise BadInput(f"{section}: {said}")


def lack(seats: Sequence[Seat], there: Sequence[Machine], threads: str = "threads_each") -> str | None:
    """What the machines lack to hold the seats: how much is needed, and how much they have."""
    for kind, field in (("CPU", threads), ("GPU", "gpus_each")):
        each = seats[0].needs[kind]
        need, have = len(seats) * each, sum(machine.resources.get(kind, 0) for machine in there)
        if need > have:
            return f"need {need:g} {kind}s ({len(seats)} seat(s) with {field}={each:g}), have {have:g}"
    ours, others = [seat for seat in seats if seat.learns], [seat for seat in seats if not seat.learns]
    for some in (ours, others, seats):  # by Hall's theorem these three are enough
        room = sum(max((machine.holds(seat) for seat in some), default=0) for machine in there)
        if some and room < len(some):
            labels = sorted({f"{name}={value}" for seat in some for name, value in seat.labels.items()})
            marked = f" labelled {', '.join(labels)}" if labels else ""
            return f"need {len(some)} seat(s) on machines{marked}, each whole on one of them, have {room}"
    return None


class Seats:
    """Reserved seats, on which actors are put by number."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.count = len(seats)
        self.learning = [number for number, seat in enumerate(seats) if seat.learns]
        near = set(self.learning) if len(self.learning) > 1 else set()
        self._groups: list[PlacementGroup] = []
        self._places: dict[int, tuple[PlacementGroup, int]] = {}
        for numbers, strategy in ((near, "PACK"), (set(range(len(seats))) - near, "SPREAD")):
            if chosen := sorted(numbers):
                needs, labels = [seats[number].needs for number in chosen], [seats[number].labels for number in chosen]
                group = placement_group(needs, strategy, bundle_label_selector=labels if any(labels) else None)
                self._groups.append(group)
                self._places |= {number: (group, bundle) for bundle, number in enumerate(chosen)}

    def at(self, number: int) -> PlacementGroupSchedulingStrategy:
        group, bundle = self._places[number]
        return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle)

    def wait(self, deadline_s: float) -> None:
        wait_for([group.ready() for group in self._groups], f"a place for {len(self._places)} seats", deadline_s)

    def give_back(self) -> None:
        for group in self._groups:
            remove_placement_group(group)


@contextmanager
def reserve(seats: Sequence[Seat], deadline_s: float) -> Iterator[Seats]:
    """Learners that share their work lie on as few machines as hold them; all other seats are spread over all."""
    reserved = Seats(seats)
    try:
        reserved.wait(deadline_s)
        yield reserved
    finally:
        reserved.give_back()


def _times(kind: str, each: float, have: float) -> int:
    if kind == "GPU" and each < 1:
        return int(have) * int(1 / each + 1e-9)
    return int(have / each + 1e-9)
