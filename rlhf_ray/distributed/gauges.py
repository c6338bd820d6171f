"""Gauges: a run's metrics for Prometheus, through Ray's own exporter."""

import re

from ray.util.metrics import Gauge

from rlhf_ray.experience import Metrics


class Gauges:
    """A board: each metric is a gauge, `objective/kl` being `ray_rlhf_objective_kl`, labelled with the run's folder."""

    def __init__(self, run: str) -> None:
        self.tags = {"run": run}
        self.gauges: dict[str, Gauge] = {}

    def show(self, step: int, metrics: Metrics) -> None:
        for name, value in ({"step": float(step)} | metrics).items():
            if name not in self.gauges:
                self.gauges[name] = Gauge(f"rlhf_{re.sub(r'[^A-Za-z0-9]', '_', name)}", f"{name} of PPO.", ("run",))
            self.gauges[name].set(value, self.tags)

    def close(self) -> None:
        """Ray forgets them with the process."""
