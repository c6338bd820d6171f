"""What the docs quote is what the code says, and what they link to is there."""

import re
from pathlib import Path

import pytest

from tests.docs import configuration
from tests.docs.test_pages import PAGES, ROOT

PACKAGES = ("rlhf_ray", "jobs", "serve")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")  # to a file, not to the web
MESSAGE = re.compile(r"^\| (?:\d\d\d )?`(.+?)`", re.MULTILINE)  # the first column of a table


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """The code, in which strings that are broken over lines are put together again."""
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return [re.sub(r'"\s*\n\s*f?"', "", text(path)) for path in files]


def test_the_reference_of_configs_says_what_the_code_says() -> None:
    said = text(ROOT / "docs" / "configuration.md")
    assert said == configuration.page(), "python -m tests.docs.configuration > docs/configuration.md"


@pytest.mark.parametrize("message", MESSAGE.findall(text(ROOT / "docs" / "troubleshooting.md")))
def test_a_message_of_troubleshooting_is_one_that_is_said(message: str, sources: list[str]) -> None:
    parts = [part.strip() for part in message.split("…") if part.strip()]
    assert any(all(part in source for part in parts) for source in sources)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert not [to for to in LINK.findall(text(page)) if not (page.parent / to).exists()]
