"""Serve a finished run: `serve run` of the same file, with mistakes said in one line before anything starts."""

import os
import sys
from pathlib import Path
from time import sleep

from pydantic import ConfigDict, ValidationError
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.schema import ServeDeploySchema

from rlhf_ray.config import BadInput, Config, check, load
from rlhf_ray.distributed.connection import connect

from jobs.door import was_help_asked
from jobs.ending import guarded
from serve.app import Serving, generators, reward_model
from serve.keys import Keys, check_exposed

USAGE = "python -m jobs.serve CONFIG"
# Of the processes that Ray starts: fewer threads on a request's way, and a dead proxy noticed within seconds.
SETTINGS = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
}


class Anything(Config):
    """Ray Serve's file, whose keys Ray itself checks."""

    model_config = ConfigDict(extra="allow")


def read(path: str) -> ServeDeploySchema:
    """Raises BadInput where the file, its models or its keys cannot be served."""
    values = load(Anything, path).model_dump()
    try:
        schema = ServeDeploySchema.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    for place, application in enumerate(schema.applications):
        config = check(Serving, application.args, f"{path}: applications.{place}.args")
        check_exposed(schema.http_options.host, config.keys)
        if config.keys != "none":
            Keys.read(Path(config.keys))
        generators(config), reward_model(config)
    return schema


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
