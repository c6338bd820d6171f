"""The file that `serve run` and `jobs.serve` read: Ray Serve's own keys, and in `args` the application's."""

from pathlib import Path

from pydantic import ConfigDict, ValidationError
from ray.serve.schema import ServeDeploySchema

from rlhf_ray.config import BadInput, Config, check, load
from rlhf_ray.feedback.segments import check_place

from serve.app import Serving, gold_of, versions_of
from serve.keys import Keys, check_exposed


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
        gold_of(config, versions_of(config))
        if config.ledger != "none":
            check_place(Path(config.ledger))
    return schema
