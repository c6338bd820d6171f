"""Model cards: what a model is, how it was made, and what was measured."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel

from rlhf_ray.durable import file_digest

CARD = "README.md"  # written when a run ends, with what was measured: no part of what a stage made
_TEMPLATES = Environment(  # noqa: S701  (Markdown, not HTML)
    loader=PackageLoader("rlhf_ray.evaluation"), undefined=StrictUndefined, keep_trailing_newline=True
)


def write_card(folder: Path, template: str, **facts: Any) -> None:
    """Render `template` with the facts as the folder's README.md."""
    text = _TEMPLATES.get_template(template).render(**facts)
    (folder / CARD).write_text(text, encoding="utf-8")


def write_base_card(folder: Path, pretraining: BaseModel) -> None:
    """The card of the shipped base, with the digest of its weights and its loss curve."""
    losses = json.loads((folder / "losses.json").read_text(encoding="utf-8"))
    settings = pretraining.model_dump()
    write_card(
        folder, "base_card.md", settings=settings, losses=losses, digest=file_digest(folder / "model.safetensors")
    )
