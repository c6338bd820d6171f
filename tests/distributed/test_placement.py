"""Seats on a cluster of several machines that only pretend to have GPUs."""

import re
from collections.abc import Callable, Iterator

import pytest
import ray
from ray.cluster_utils import Cluster as Pretended
from ray.util.placement_group import placement_group_table

from rlhf_ray.config import BadInput, check
from rlhf_ray.distributed.connection import NoAnswer
from rlhf_ray.distributed.placement import Machine, Seat, check_room, lack, machines, plan, reserve
from rlhf_ray.distributed.search import check_trials
from rlhf_ray.runs import RunConfig
from rlhf_ray.training.search import Search

LEARNS, SPEAKS = {"role": "learner"}, {"role": "sampler"}


def config_of(lead: int = 0, **cluster: object) -> RunConfig:
    values = {"ppo": {"lead": lead}, "cluster": {"threads_each": 1} | cluster}
    return check(RunConfig, values, "test")


def machine(cpus: float, gpus: float = 0, **labels: str) -> Machine:
    return Machine("", "10.0.0.1", {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}, labels)


def seats(count: int, cpus: float = 1, gpus: float = 0, learners: int = 0, **labels: dict[str, str]) -> list[Seat]:
    learn_on, speak_on = labels.get("learn_on", {}), labels.get("speak_on", {})
    needs = {"CPU": cpus, "GPU": gpus}
    return [Seat(needs, learn_on if n < learners else speak_on, n < learners) for n in range(count)]


@pytest.mark.parametrize(
    ("lead", "cluster", "cpus", "learning"),
    [
        (0, {}, 9, [True]),
        (0, {"samplers": 3}, 9, [True, False, False]),
        (0, {"samplers": 3, "learners": 2}, 9, [True, True, False]),
        (1, {"samplers": 3, "learners": 2}, 5, [False, False, False, True, True]),
        (1, {"samplers": 3, "learners": 2}, 4, [True, True, False]),
        (1, {"threads_each": 2}, 2, [True]),
        (1, {"speak_on": SPEAKS}, 1, [False, True]),
        (1, {"gpus_each": 0.5}, 1, [False, True]),
        (1, {"grows": True}, 1, [False, True]),
    ],
)
def test_learners_sit_where_others_sit_or_behind_them_if_there_is_room(
    lead: int, cluster: dict, cpus: int, learning: list[bool]
) -> None:
    config = config_of(lead, **cluster)
    assert [seat.learns for seat in plan(config, config.cluster, [machine(cpus)])] == learning


@pytest.mark.parametrize(
    ("asked", "there", "said"),
    [
        (seats(3), [machine(2), machine(1)], None),
        (seats(3), [machine(2)], r"need 3 CPUs \(3 seat\(s\) with threads_each=1\), have 2"),
        (seats(2, gpus=0.5), [machine(9, 1)], None),
        (seats(3, gpus=0.5), [machine(9, 1)], r"need 1.5 GPUs \(3 seat\(s\) with gpus_each=0.5\), have 1"),
        (seats(4, gpus=0.4), [machine(9, 2)], None),
        (seats(5, gpus=0.4), [machine(9, 2)], "need 5 seat.* each whole on one of them, have 4"),
        (
            seats(3, cpus=2),
            [machine(3), machine(3)],
            r"need 3 seat\(s\) on machines, each whole on one of them, have 2",
        ),
        (seats(2, learners=1, learn_on=LEARNS), [machine(9)], "on machines labelled role=learner, .* have 0"),
        (seats(2, learners=1, learn_on=LEARNS), [machine(9), machine(1, role="learner")], None),
        (
            seats(3, learners=1, learn_on=LEARNS, speak_on=SPEAKS),
            [machine(9, role="learner"), machine(1, role="sampler")],
            r"need 2 seat\(s\) on machines labelled role=sampler, .* have 1",
        ),
        # Each kind has room enough, but the two want the same machine.
        (seats(4, learners=2, learn_on=LEARNS), [machine(3, role="learner"), machine(1)], None),
        (seats(4, gpus=1, learners=2, learn_on=LEARNS), [machine(9, 3, role="learner")], "need 4 GPUs"),
    ],
)
def test_what_lacks_is_said(asked: list[Seat], there: list[Machine], said: str | None) -> None:
    found = lack(asked, there)
    assert found is None if said is None else re.search(said, found or "nothing")


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({"gpus_each": 1.5}, "gpus_each: expected at most 1 or a whole number, got 1.5"),
        ({"speak_on": SPEAKS}, "cluster.speak_on: expected seats on which nobody learns"),
        ({"learn_on": {"role": "not one"}}, "cluster.learn_on.role: string should match"),
    ],
)
def test_a_placement_that_cannot_be_is_a_mistake(cluster: dict, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        config_of(**cluster)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Pretended]:
    """Three machines: two for samplers, one for learners; each says that it has a GPU, the last that it has four."""
    ray.shutdown()
    pretended = Pretended(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "num_gpus": 1, "labels": SPEAKS, "include_dashboard": False},
    )
    pretended.add_node(num_cpus=4, num_gpus=1, labels=SPEAKS)
    pretended.add_node(num_cpus=4, num_gpus=4, labels=LEARNS)
    pretended.wait_for_nodes()
    ray.init(address=pretended.address, logging_level="WARNING")
    yield pretended
    ray.shutdown()
    pretended.shutdown()


@pytest.fixture
def places_of(cluster: Pretended) -> Callable[[RunConfig], list[str]]:
    """Reserves the seats of a config and says by number on which machine each is."""

    def places_of(config: RunConfig) -> list[str]:
        asked = plan(config, config.cluster, machines())
        check_room(config.cluster, asked)
        with reserve(asked, deadline_s=60) as reserved:
            strategies = [reserved.at(number) for number in range(len(asked))]
            tables = [placement_group_table(each.placement_group)["bundles_to_node_id"] for each in strategies]
            bundles = [each.placement_group_bundle_index for each in strategies]
            return [table[bundle] for table, bundle in zip(tables, bundles, strict=True)]

    return places_of


def labels_of(node: str) -> dict[str, str]:
    return next(each["Labels"] for each in ray.nodes() if each["NodeID"] == node)


def test_seats_that_take_turns_are_spread_over_the_machines(places_of: Callable) -> None:
    assert len(set(places_of(config_of(samplers=3)))) == 3


def test_learners_that_share_their_work_lie_together_and_samplers_apart(places_of: Callable) -> None:
    places = places_of(config_of(lead=1, samplers=3, learners=2))
    assert len(set(places[:3])) == 3
    assert len(set(places[3:])) == 1


def test_labels_say_on_which_machines(places_of: Callable) -> None:
    places = places_of(config_of(lead=1, samplers=2, learners=4, gpus_each=1, learn_on=LEARNS, speak_on=SPEAKS))
    assert [labels_of(place)["role"] for place in places] == ["sampler"] * 2 + ["learner"] * 4
    assert len(set(places[:2])) == 2


def test_two_seats_share_a_gpu(places_of: Callable) -> None:
    places = places_of(config_of(lead=1, samplers=4, learners=1, gpus_each=0.5, learn_on=LEARNS, speak_on=SPEAKS))
    assert sorted(places.count(place) for place in set(places[:4])) == [2, 2]


def test_what_no_machine_has_is_said_at_once_and_waited_for_where_machines_join(cluster: Pretended) -> None:
    config = config_of(learn_on={"role": "nobody"})
    asked = plan(config, config.cluster, machines())
    with pytest.raises(BadInput, match=r"cluster: need 1 seat\(s\) on machines labelled role=nobody, .* have 0"):
        check_room(config.cluster, asked)
    growing = config.cluster.model_copy(update={"grows": True})
    check_room(growing, asked)
    with pytest.raises(NoAnswer, match="a place for 1 seats"), reserve(asked, deadline_s=2):
        pass
    node = cluster.add_node(num_cpus=1, labels={"role": "nobody"})
    with reserve(asked, deadline_s=60) as reserved:
        (place,) = placement_group_table(reserved.at(0).placement_group)["bundles_to_node_id"].values()
        assert labels_of(place)["role"] == "nobody"
    cluster.remove_node(node)


def test_a_search_waits_for_machines_where_its_run_does(cluster: Pretended) -> None:
    search = Search(concurrent=100)
    with pytest.raises(BadInput, match=r"search: need 100 CPUs \(100 seat\(s\) with threads_each=1\), have"):
        check_trials(search, grows=False)
    check_trials(search, grows=True)


def test_machines_are_named_with_what_they_have(cluster: Pretended) -> None:
    found = machines()
    assert sorted(each.resources["GPU"] for each in found) == [1, 1, 4]
    assert sum(each.labels["role"] == "sampler" for each in found) == 2
