"""Say whether a config could run here, or on the cluster that RAY_ADDRESS names: what it needs and what there is."""

import sys

from rlhf_ray.config import BadInput, load
from rlhf_ray.distributed.readiness import examine
from rlhf_ray.runs import RunConfig

from jobs.door import was_help_asked
from jobs.ending import guarded

USAGE = "python -m jobs.doctor CONFIG [key=value …]"


def main() -> None:
    if was_help_asked(sys.argv[1:], USAGE, "rlhf_ray/runs.py or in a class that it names"):
        return
    if len(sys.argv) < 2:
        raise BadInput(f"expected {USAGE}, got no CONFIG")
    wrong = []
    for finding in examine(load(RunConfig, sys.argv[1], sys.argv[2:])):
        print(f"{'no' if finding.wrong else 'ok'}  {finding.name:<9} {finding.said}", flush=True)
        if finding.wrong:
            wrong.append(finding.name)
    if wrong:
        raise BadInput(f"{sys.argv[1]}: expected what the run needs, got no to {', '.join(wrong)}")


if __name__ == "__main__":
    guarded(main)
