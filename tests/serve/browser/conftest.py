"""One Chromium for all drills of the pages."""

from collections.abc import Iterator

import pytest

from tests.serve.browser.chromium import Chromium, find_chromium
from tests.serve.browser.site import site

from serve.orders import Order


def echo(name: str, order: Order) -> str:
    """What was asked about; the tuned model has a little more to say."""
    about = str(order.prompt).split("\n")[0].removeprefix("Provide a Root Cause Analysis for the recent ")
    return about + (" It was the pool." * 12 if name == "tuned" else "")


@pytest.fixture(scope="session")
def browser() -> Iterator[Chromium]:
    found = find_chromium()
    if not found:
        pytest.skip("no chromium and chromedriver here: apt-get install chromium chromium-driver")
    chromium = Chromium(*found)
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with site(tmp_path_factory.mktemp("ledger"), echo) as address:
        yield address


@pytest.fixture
def page(browser: Chromium, address: str) -> Iterator[Chromium]:
    """The page as somebody sees it who comes for the first time. The console must have nothing to say afterwards."""
    browser.show(1280, 900)
    browser.go(f"{address}/")
    browser.forget()
    browser.go(f"{address}/")
    browser.complaints()
    yield browser
    assert not browser.complaints()
