"""Two hundred texts that would run where a page lets them, as prompt, completion, comment and name: none runs."""

import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.serve.browser.chromium import Chromium
from tests.serve.browser.conftest import echo
from tests.serve.browser.payloads import PAYLOADS
from tests.serve.browser.site import site

from serve.keys import Keys, issue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PEOPLE = 5  # who share the payloads: one may vote sixty times a minute
SAID = "return document.querySelector('#answers .said')?.textContent ?? ''"
MADE_HERE = "return [...document.querySelectorAll('body *')].map((element) => element.localName)"
OURS = set(
    "header main nav section aside article form fieldset legend div p span a h1 h2 h3 ol li dl dt dd label input "  # noqa: SIM905
    "textarea button kbd code details summary strong time noscript svg symbol path g use rect circle line text "
    "table thead tbody tr th td".split()
)


def test_what_is_planted_would_be_seen(browser: Chromium) -> None:
    """The control: on a page that makes markup of texts most of these do run."""
    ran = 0
    for payload in PAYLOADS:
        browser.go("about:blank")
        browser.run("document.write(arguments[0])", payload)
        browser.run("return new Promise((resolve) => setTimeout(resolve, 40))")
        ran += bool(browser.run("return window.ran.length"))
    assert len(PAYLOADS) == len(set(PAYLOADS)) == 200
    print(f"{ran} of {len(PAYLOADS)} run where nothing guards")
    assert ran >= 80


def test_no_prompt_completion_or_comment_runs(page: Chromium, address: str) -> None:
    for place, payload in enumerate(PAYLOADS):
        if place % (len(PAYLOADS) // PEOPLE) == 0:
            nothing_ran(page)
            page.forget()
            page.go(f"{address}/")
        page.run("for (const id of ['incident', 'evidence']) document.getElementById(id).value = arguments[0]", payload)
        page.run("document.getElementById('ask').click()")
        shown = " ".join(payload.split())
        page.wait(lambda shown=shown: shown in page.run(SAID) or None)
        page.run("document.querySelector('#answers textarea').value = arguments[0]", payload)
        page.run("document.querySelector('#answers .thumbs button').click()")
        page.wait_for_text("#answers .note", "Saved.")
    for summary in page.all("#votes summary"):
        summary.click()
    nothing_ran(page)
    page.go(f"{address}/")
    page.wait_for_text("#votes .about", "xss()")
    assert len(page.all("#votes li")) == len(PAYLOADS) // PEOPLE
    for summary in page.all("#votes summary"):
        summary.click()
    assert page.one("#votes textarea").get_attribute("value") == PAYLOADS[-1]
    nothing_ran(page)
    page.go(f"{address}/dashboard")
    page.wait_for_text("#lead", f"{len(PAYLOADS)} votes")
    nothing_ran(page)


def test_no_name_runs(browser: Chromium, tmp_path: Path) -> None:
    """Names of keys and of applications' people: whoever looks at the dashboard runs none of them."""
    admin, taken = issue(tmp_path / "keys", "ops", ["admin"]), 0
    names = [each for each in PAYLOADS if "/" not in each and len(each) <= 64 and each.isprintable()][:8]
    named = [issue(tmp_path / "keys", name, ["generate", "feedback"]) for name in names]
    with site(tmp_path / "ledger", echo, keys=Keys.read(tmp_path / "keys")) as address:
        for place, payload in enumerate(PAYLOADS):
            key = named[place % len(named)]
            (choice,) = post(f"{address}/v1/completions", key, {"prompt": "fox"})["choices"]
            vote = {"completion_id": choice["completion_id"], "label": 1, "user": payload}
            taken += "error" not in post(f"{address}/v1/feedback", key, vote)
        browser.go(f"{address}/dashboard")
        browser.one("#key").send_keys(admin, "\n")
        browser.wait_for_text("#lead", f"{taken} votes")
        nothing_ran(browser)
    assert taken >= 100


def post(address: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    try:
        with urlopen(Request(address, json.dumps(body).encode(), headers), timeout=20) as answer:  # noqa: S310
            return json.load(answer)
    except HTTPError as error:
        assert error.code == 400, "a name that no file can hold is refused"
        return json.load(error)


def nothing_ran(page: Chromium) -> None:
    assert page.run("return window.ran") == []
    assert page.run("return window.violations") == []
    assert not set(page.run(MADE_HERE)) - OURS
    assert not page.complaints()
