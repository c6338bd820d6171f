"""People at the page, in a real Chromium before the real doors and a real ledger."""

import pytest
from selenium.webdriver.common.keys import Keys as Key

from tests.serve.browser.chromium import Chromium
from tests.serve.browser.conftest import echo
from tests.serve.browser.site import site

from serve.keys import Keys, issue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def ask(page: Chromium, incident: str, *, two: bool = False) -> None:
    page.one("#incident").clear()
    page.one("#incident").send_keys(incident)
    page.one("#two" if two else "#one").click()
    page.one("#ask").click()
    page.wait_for_text("#answers .said", incident)
    assert len(page.all("#answers .answer")) == 1 + two


def thumbs(page: Chromium, within: str = "#answers") -> list[bool]:
    """Which of the buttons are pressed."""
    return [button.get_attribute("aria-pressed") == "true" for button in page.all(f"{within} .thumbs button")]


def live_votes(page: Chromium) -> list[dict]:
    """The votes of whoever sits at the page, as the server tells them."""
    return page.run("return fetch('/v1/feedback').then((answer) => answer.json()).then((found) => found.data)")


def test_a_vote_is_given_changed_kept_and_counted(page: Chromium, address: str) -> None:
    ask(page, "fox at night")
    assert not page.one("#answers .verdict").is_displayed()
    assert thumbs(page) == [False, False]
    page.one("#answers textarea").send_keys("Names the cause.")
    page.one("#answers .thumbs button").click()
    page.wait_for_text("#answers .note", "Saved.")
    assert thumbs(page) == [True, False]
    assert "tuned" in page.text("#answers .verdict")
    assert "It agrees with you." in page.text("#answers .verdict")

    page.one("#votes summary").click()
    assert page.one("#votes textarea").get_attribute("value") == "Names the cause."
    page.all("#votes .thumbs button")[1].click()
    page.wait(lambda: thumbs(page, "#votes") == [False, True] or None)
    assert thumbs(page) == [False, True], "the answer above shows the same vote"
    assert "It disagrees with you." in page.text("#answers .verdict")

    page.go(f"{address}/")
    page.wait_for_text("#votes .about", "fox at night")
    page.one("#votes summary").click()
    assert thumbs(page, "#votes") == [False, True]
    (vote,) = live_votes(page)
    assert (vote["label"], vote["comment"], vote["model"]) == (-1, "Names the cause.", "tuned")
    page.go(f"{address}/dashboard")
    page.wait_for_text("#lead", "1 vote, 0 of them Good.")
    page.wait_for_text("#models-finding", "Too little data for tuned")


def test_two_answers_are_told_apart_only_after_both_votes(page: Chromium, address: str) -> None:
    ask(page, "fox by day", two=True)
    page.all("#answers .thumbs button")[0].click()
    page.wait_for_text("#answers .note", "Saved. Its model is named once both have a vote.")
    page.one("#votes summary").click()
    shown = page.text("main")
    assert not [word for word in ("sft", "version ", "chance of Good") if word in shown]
    page.all("#answers .thumbs button")[3].click()
    page.wait(lambda: len([each for each in page.all("#answers .verdict") if each.is_displayed()]) == 2 or None)
    assert {each.text for each in page.all("#answers .verdict strong")} == {"tuned", "sft"}
    page.go(f"{address}/dashboard")
    page.wait_for_text("#comparison-finding", "1 pair: tuned won")
    page.wait_for_text("#comparison-finding", "Too little data")


def test_a_comment_can_come_after_the_vote(page: Chromium) -> None:
    ask(page, "fox at dawn")
    page.one("#answers textarea").send_keys("Too long.")
    page.press_with(Key.CONTROL, Key.ENTER)
    page.wait_for_text("#answers .note", "A comment goes with a vote")
    page.all("#answers .thumbs button")[1].click()
    page.wait_for_text("#answers .note", "Saved.")
    page.one("#answers textarea").send_keys(" Much too long.")
    save = page.one("#answers .comment button")
    save.click()
    page.wait(lambda: not save.is_displayed() or None)
    (vote,) = live_votes(page)
    assert (vote["label"], vote["comment"]) == (-1, "Too long. Much too long.")


def test_nothing_but_the_keyboard_is_needed(page: Chromium) -> None:
    page.press("n")
    page.press("fox in the dark", Key.TAB, "The cable was cut.", Key.ENTER, "It rained.")
    page.press_with(Key.CONTROL, Key.ENTER)
    page.wait_for_text("#answers .said", "fox in the dark")
    assert page.text("#asked").endswith("- The cable was cut.\n- It rained.")
    page.press("2", "1")  # the second counts
    page.wait(lambda: thumbs(page) == [True, False] or None)
    page.press("v", Key.TAB, Key.ENTER)  # to the votes, the first of them, open it
    page.wait(lambda: page.one("#votes .thumbs").is_displayed() or None)
    page.press(Key.TAB, Key.TAB, Key.SPACE)  # past Good, to Bad
    page.wait(lambda: thumbs(page) == [False, True] or None)
    page.press(Key.TAB, "12")
    page.press_with(Key.CONTROL, Key.ENTER)
    page.wait(lambda: live_votes(page)[0]["comment"] == "12" or None)
    assert thumbs(page) == [False, True], "who writes gives no votes"
    page.press(Key.ESCAPE, "1")
    page.wait(lambda: thumbs(page) == [True, False] or None)
    assert [(vote["label"], vote["comment"]) for vote in live_votes(page)] == [(1, "12")]


def test_single_keys_can_be_switched_off(page: Chromium, address: str) -> None:
    page.one("#single-keys").send_keys(Key.SPACE)
    for _ in range(2):
        page.press("n")
        assert page.run("return document.activeElement.id") != "incident"
        page.go(f"{address}/")
    page.one("#single-keys").send_keys(Key.SPACE)
    page.press("n")
    assert page.run("return document.activeElement.id") == "incident"


def test_what_the_server_refuses_is_told_in_its_own_words(page: Chromium) -> None:
    page.one("#incident").send_keys("x" * 1001)
    page.one("#ask").click()
    page.wait_for_text("#trouble", "incident: String should have at most 1000 characters")
    ask(page, "fox gone")
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/v1/feedback*"]})
    page.one("#answers .thumbs button").click()
    page.wait_for_text("#answers .note", "The server cannot be reached.")
    page.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    assert all("ERR_BLOCKED_BY_CLIENT" in message for message in page.complaints())
    assert thumbs(page) == [False, False], "what is not saved is not shown as if it were"
    page.one("#answers .thumbs button").click()
    page.wait_for_text("#answers .note", "Saved.")
    assert len(live_votes(page)) == 1


def test_a_dashboard_behind_keys_asks_for_one(browser: Chromium, tmp_path) -> None:
    key = issue(tmp_path / "keys", "ops", ["admin"])
    with site(tmp_path / "ledger", echo, keys=Keys.read(tmp_path / "keys")) as address:
        browser.go(f"{address}/dashboard")
        browser.wait_for_text("#trouble", "expected a valid key")
        for typed in ("wrong", key):
            browser.one("#key").send_keys(typed, Key.ENTER)
        browser.wait_for_text("#lead", "Nobody has voted yet")
        assert not browser.one("#door").is_displayed()
        browser.go(f"{address}/")
        ask(browser, "fox without a key")
        browser.press("1")
        browser.wait_for_text("#answers .note", "Saved.")
        assert not browser.complaints()
