"""Serve a finished run: `serve run` of the same file, with mistakes said in one line before anything starts."""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

from ray import serve
from ray.serve._private.api import serve_start

from rlhf_ray.config import BadInput
from rlhf_ray.distributed.connection import connect

from jobs.door import was_help_asked
from jobs.ending import guarded
from serve.file import read
from serve.front import check_free, settings
from serve.scheduling import interrupt_nobody

USAGE = "python -m jobs.serve CONFIG"
START_S = 600  # that the models may take to load; Ray itself would give up after 60


def main() -> None:
    if was_help_asked(sys.argv[1:], USAGE, "serve/app.py or is Ray Serve's"):
        return
    if len(sys.argv) != 2:
        raise BadInput(f"expected {USAGE}, got {len(sys.argv) - 1} words")
    schema = read(sys.argv[1])
    options = schema.http_options
    if options.host and "RAY_ADDRESS" not in os.environ:  # a cluster's Serve may listen there already
        check_free(options.host, options.port)
    with TemporaryDirectory(prefix="rlhf_ray-") as folder:
        for name, value in settings(Path(folder)).items():
            os.environ.setdefault(name, value)
        interrupt_nobody()
        connect()
        client = serve_start(http_options=options.model_dump(), proxy_location=schema.proxy_location)
        client.deploy_apps(schema)
        for application in schema.applications:
            client._wait_for_application_running(application.name, timeout_s=START_S)
        client.wait_for_proxies_serving(wait_for_applications_running=True)
        print(f"serving on http://{options.host}:{options.port}; Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            while True:
                sleep(3600)
        finally:
            serve.shutdown()


if __name__ == "__main__":
    guarded(main)
