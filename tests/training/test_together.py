"""What workers share out is what one alone would have made, and nobody makes it twice."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from rlhf_ray.config import BadInput
from rlhf_ray.training.together import own_part, share_out

WHOLE, SIZE = 2, 3
COUNTS = (0, 1, 4, 5, 13)


def share(count: int) -> tuple[list[float], list[int]]:
    """What a worker gets, and the rows that it read itself."""
    read: list[int] = []

    def work(rows: list[dict[str, int]]) -> torch.Tensor:
        read.extend(row["number"] for row in rows)
        return torch.tensor([row["number"] / 3 for row in rows])

    return share_out(rows_of(count), work, whole=WHOLE).tolist(), read


def rows_of(count: int) -> list[dict[str, int]]:
    return [{"number": number} for number in range(count)]


def stumble(rows: list[dict[str, int]]) -> torch.Tensor:
    """Over one row, which one of the workers has."""
    if {"number": 3} in rows:
        raise BadInput("row 3: expected something else")
    return torch.zeros(len(rows), 2)


def complaint() -> str:
    with pytest.raises(BadInput) as raised:
        share_out(rows_of(13), stumble, whole=WHOLE)
    return str(raised.value)


def as_one_of_many(rank: int, place: str) -> tuple[int, str, list[tuple[list[float], list[int]]]]:
    where = {"init_method": f"file://{place}", "timeout": timedelta(seconds=60)}
    dist.init_process_group("gloo", rank=rank, world_size=SIZE, **where)
    try:
        return own_part(12), complaint(), [share(count) for count in COUNTS]
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, list[tuple[list[float], list[int]]]]]:
    place = str(Path(tmp_path_factory.mktemp("together"), "meeting"))
    with ProcessPoolExecutor(SIZE, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(partial(as_one_of_many, place=place), range(SIZE)))


def test_each_trains_on_its_part(workers: list) -> None:
    assert own_part(12) == 12
    assert [part for part, _, _ in workers] == [12 // SIZE] * SIZE


@pytest.mark.parametrize(("number", "count"), list(enumerate(COUNTS)))
def test_all_get_what_one_alone_makes_and_each_row_is_read_once(workers: list, number: int, count: int) -> None:
    alone, read_alone = share(count)
    assert read_alone == list(range(count))
    shared = [said[number] for _, _, said in workers]
    assert [got for got, _ in shared] == [alone] * SIZE
    assert sorted(row for _, read in shared for row in read) == read_alone
    batches = [read_alone[start : start + WHOLE] for start in range(0, count, WHOLE)]
    for rank, (_, read) in enumerate(shared):
        assert read == [row for batch in batches[rank::SIZE] for row in batch], "batches stay whole, and are dealt"


def test_all_raise_what_one_raised(workers: list) -> None:
    assert [said for _, said, _ in workers] == ["row 3: expected something else"] * SIZE
