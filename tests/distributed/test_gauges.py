"""A run's metrics on Ray's exporter for Prometheus."""

import time
import urllib.request

import pytest
import ray

from rlhf_ray.distributed.connection import connect, disconnect
from rlhf_ray.distributed.gauges import Gauges

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def exported(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return answer.read().decode()


def test_prometheus_sees_every_metric_of_the_newest_step() -> None:
    connect()
    try:
        gauges = Gauges("runs/mine/seed-0")
        gauges.show(1, {"objective/kl": 0.5, "reward/my model": 1.0})
        gauges.show(2, {"objective/kl": 0.25, "reward/my model": 2.0})
        (node,) = ray.nodes()
        deadline, page = time.monotonic() + 120, ""
        while "ray_rlhf_reward_my_model" not in page and time.monotonic() < deadline:
            time.sleep(1)
            page = exported(node["MetricsExportPort"])
        lines = [
            line for line in page.splitlines() if line.startswith("ray_rlhf_") and 'run="runs/mine/seed-0"' in line
        ]
        seen = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines}
        assert seen == {"ray_rlhf_step": 2, "ray_rlhf_objective_kl": 0.25, "ray_rlhf_reward_my_model": 2}
    finally:
        disconnect()
