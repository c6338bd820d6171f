"""Serve a finished run: `serve run` of the same file, with mistakes said in one line before anything starts."""

import os
import sys
from time import sleep

from ray import serve
from ray.serve._private.api import serve_start

from rlhf_ray.config import BadInput
from rlhf_ray.distributed.connection import connect

from jobs.door import was_help_asked
from jobs.ending import guarded
from serve.file import read

USAGE = "python -m jobs.serve CONFIG"
# Of the processes that Ray starts: fewer threads on a request's way, and a dead proxy noticed within seconds.
SETTINGS = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
}


def main() -> None:
    if was_help_asked(sys.argv[1:], USAGE, "serve/app.py or is Ray Serve's"):
        return
    if len(sys.argv) != 2:
        raise BadInput(f"expected {USAGE}, got {len(sys.argv) - 1} words")
    schema = read(sys.argv[1])
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    connect()
    options = schema.http_options
    client = serve_start(http_options=options.model_dump(), proxy_location=schema.proxy_location)
    client.deploy_apps(schema, _blocking=True)
    print(f"serving on http://{options.host}:{options.port}; Ctrl-C ends it", file=sys.stderr, flush=True)
    try:
        while True:
            sleep(3600)
    finally:
        serve.shutdown()


if __name__ == "__main__":
    guarded(main)
