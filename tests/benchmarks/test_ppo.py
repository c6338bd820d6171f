"""What the comparison of speed makes of what it measured."""

import pytest
from floor import Rates, iteration
from ppo import COLUMNS, Variant, row, variants
from stopwatch import Stopwatch
from workload import SIZES

from rlhf_ray.config import load
from rlhf_ray.runs import RunConfig

TINY = SIZES["tiny"]


def ran(wall: float) -> dict:
    """A process with one iteration, of 3 `wall` seconds on two cores, and responses of the wanted mean length."""
    phase = {"wall": wall, "cpu": 2 * wall}
    return {
        "iterations": [dict.fromkeys(("generate", "score", "update"), phase)],
        "lengths": [[round(TINY.mean_response)] * TINY.episodes],
        "peak": 2**30,
    }


def test_a_row_has_the_median_and_the_range_of_all_turns():
    rates = Rates(flops=1e12, bytes=1e15)
    cells = row("tiny", TINY, Variant("TRL", "fp32", 2), [ran(1.0), ran(2.0), ran(4.0)], rates).strip("| ").split(" | ")
    said = dict(zip(COLUMNS, cells, strict=True))
    least = sum(cost.flops for cost in iteration(TINY).values()) / 1e12
    assert said["wall s"] == "6.00 (3.00–12.00)"
    assert said["CPU s"] == "12.00 (6.00–24.00)"
    assert float(said["times the floor"]) == pytest.approx(6 / least, abs=0.05)
    assert said["generated tokens/s"].startswith(f"{33 * 64 / 2:.0f} ")
    assert said["mean length"] == "33.0"


@pytest.mark.parametrize("name", SIZES)
def test_every_variant_of_ours_has_settings_that_the_config_knows(name, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: 0", encoding="utf-8")
    for variant in variants(name, ["fp32", "bf16"]):
        load(RunConfig, path, list(variant.words))


def test_time_belongs_to_the_phase_that_it_ends_with():
    watch = Stopwatch()
    watch.begin()
    sum(range(3_000_000))
    watch.lap("generate")
    watch.end()
    (only,) = watch.iterations
    assert only["generate"]["wall"] > 0
    assert only["score"] == only["update"] == {"wall": 0.0, "cpu": 0.0}
