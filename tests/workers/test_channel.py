"""Weights that are sent at once: all receive what one sends, and who waits in vain is told."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rlhf_ray.weights import LocalWeights, pack
from rlhf_ray.workers.channel import Channel


@pytest.fixture
def place() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def together(place: str, size: int, deadline_s: float = 60) -> list[Channel]:
    with ThreadPoolExecutor(size) as pool:
        meet = [pool.submit(Channel, place, rank, size, "cpu", deadline_s) for rank in range(size)]
        return [meeting.result() for meeting in meet]


def test_all_receive_what_one_sends(place: str) -> None:
    first, *others = together(place, 3)
    with ThreadPoolExecutor(3) as pool:
        for version in (7, 8):
            sent = pack([torch.randn(50, 20), torch.randn(3)], version)
            received = [pool.submit(other.receive) for other in others]
            first.send(sent)
            for answer in received:
                got: LocalWeights = answer.result()
                assert (got.version, got.checksum) == (version, sent.checksum)
                assert (got.buffer == sent.buffer).all()


def test_who_waits_in_vain_is_told(place: str) -> None:
    first, _ = together(place, 2, deadline_s=1)
    with pytest.raises(RuntimeError):
        first.send(pack([torch.randn(5)], 1))


def test_who_comes_alone_is_told(place: str) -> None:
    with pytest.raises(RuntimeError):
        Channel(place, 0, 2, "cpu", 1)
