"""What workers share out is what one alone would have made, and nobody makes it twice."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from rlhf_ray.training.together import own_part, share_out

WHOLE, SIZE = 2, 3
COUNTS = (0, 1, 4, 5, 13)


def share(count: int) -> tuple[list[float], list[int]]:
    """What a worker gets, and the rows that it read itself."""
    read: list[int] = []

    def work(rows: list[dict[str, int]]) -> torch.Tensor:
        read.extend(row["number"] for row in rows)
        return torch.tensor([row["number"] / 3 for row in rows])

    return share_out([{"number": number} for number in range(count)], work, whole=WHOLE).tolist(), read


def as_one_of_many(rank: int, place: str) -> tuple[int, list[tuple[list[float], list[int]]]]:
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=SIZE)
    try:
        return own_part(12), [share(count) for count in COUNTS]
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, list[tuple[list[float], list[int]]]]]:
    place = str(Path(tmp_path_factory.mktemp("together"), "meeting"))
    with ProcessPoolExecutor(SIZE, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(partial(as_one_of_many, place=place), range(SIZE)))


def test_each_trains_on_its_part(workers: list) -> None:
    assert own_part(12) == 12
    assert [part for part, _ in workers] == [12 // SIZE] * SIZE


@pytest.mark.parametrize(("number", "count"), list(enumerate(COUNTS)))
def test_all_get_what_one_alone_makes_and_each_row_is_read_once(workers: list, number: int, count: int) -> None:
    alone, read_alone = share(count)
    assert read_alone == list(range(count))
    shared = [said[number] for _, said in workers]
    assert [got for got, _ in shared] == [alone] * SIZE
    assert [row for _, read in shared for row in read] == read_alone
    assert all(len(read) % WHOLE == 0 or read[-1] == count - 1 for _, read in shared), "batches stay whole"
