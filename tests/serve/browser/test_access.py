"""What assistive technology is told, where the keyboard goes, and what eyes can read: everywhere, in any light."""

from collections.abc import Iterator

import pytest
from selenium.webdriver.common.keys import Keys as Key

from tests.serve.browser.chromium import Chromium
from tests.serve.test_pages import contrast

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CONTROLS = {"button", "link", "textbox", "radio", "checkbox", "DisclosureTriangle", "image"}
# Where the keyboard should go: whatever can be focused, in the order of the document; of radio buttons the chosen one.
REACHABLE = """
return [...document.querySelectorAll("a[href], button, input, textarea, summary")]
  .filter((element) => element.checkVisibility() && (element.type !== "radio" || element.checked))
"""
FOCUSED = """
const at = document.activeElement, look = getComputedStyle(at);
return [at, look.outlineStyle !== "none" && parseFloat(look.outlineWidth) >= 2];
"""
# Each text that is shown, with its colour and that of the first ground beneath it, as [r, g, b].
TEXTS = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = numbers(getComputedStyle(at).backgroundColor);
    if (found.length < 4 || found[3] === 1) return found;
  }
  return [255, 255, 255];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement, look = getComputedStyle(element);
  const isShown = element.checkVisibility() && !element.closest(".unseen, noscript");
  if (!isShown || !texts.currentNode.textContent.trim()) continue;
  const colour = numbers(element instanceof SVGElement ? look.fill : look.color);
  found.push([texts.currentNode.textContent, colour, ground(element)]);
}
return found;
"""


@pytest.fixture(params=["/", "/dashboard"])
def shown(request: pytest.FixtureRequest, page: Chromium, address: str) -> Iterator[Chromium]:
    """Either page with something on it."""
    page.one("#incident").send_keys("fox")
    page.one("#two").click()
    page.one("#ask").click()
    page.wait_for_text("#answers .said", "fox")
    page.press("1", "4")
    page.wait(lambda: len(page.all("#votes li")) >= 2 or None)
    page.wait(lambda: page.one("#answers .verdict").is_displayed() or None)
    if request.param == "/":
        page.one("#votes summary").click()
    else:
        page.go(f"{address}/dashboard")
        page.wait_for_text("#lead", "of them Good")
    yield page


def test_every_control_and_picture_has_a_name(shown: Chromium) -> None:
    controls = [node for node in shown.nodes() if not node["ignored"] and node["role"]["value"] in CONTROLS]
    names = [node.get("name", {}).get("value", "").strip() for node in controls]
    assert len(names) >= 5
    assert all(names), [node["role"]["value"] for node, name in zip(controls, names, strict=True) if not name]
    buttons = [name for node, name in zip(controls, names, strict=True) if node["role"]["value"] == "button"]
    assert len(buttons) == len(set(buttons)), buttons


def test_the_keyboard_goes_everywhere_in_order_and_is_seen(shown: Chromium) -> None:
    expected = shown.run(REACHABLE)
    assert len(expected) >= 5
    shown.run("document.activeElement.blur(); scrollTo(0, 0)")
    shown.run("getSelection().removeAllRanges(); document.body.tabIndex = -1; document.body.focus()")
    for place, element in enumerate(expected):
        shown.press(Key.TAB)
        focused, is_seen = shown.run(FOCUSED)
        assert focused == element, f"{place}: {focused.get_attribute('outerHTML')[:200]}"
        assert is_seen, focused.get_attribute("outerHTML")[:200]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_beneath_it(shown: Chromium, scheme: str) -> None:
    shown.show(1280, 900, scheme)
    texts = shown.run(TEXTS)
    assert len(texts) > 20
    ratios = {text: contrast(hexadecimal(ink), hexadecimal(ground)) for text, ink, ground in texts}
    assert {text: ratio for text, ratio in ratios.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_the_screen(shown: Chromium, width: int) -> None:
    shown.show(width, 800)
    assert shown.run("return document.documentElement.scrollWidth") <= width
    small = "return [...document.querySelectorAll('button, summary, nav a')].filter((at) => at.checkVisibility())"
    assert min(element.size["height"] for element in shown.run(small)) >= 24


def test_answers_and_troubles_are_announced(page: Chromium) -> None:
    assert not page.one("#answers").is_displayed()
    page.one("#incident").send_keys("fox")
    page.one("#ask").click()
    page.wait_for_text("#answers .said", "fox")
    assert page.one("#answers").get_attribute("aria-live") == "polite"
    assert page.one("#answers").get_attribute("aria-busy") == "false"
    assert page.one("#trouble").get_attribute("role") == "alert"
    assert page.run("return document.activeElement.id") == "answers-title"


def hexadecimal(colour: list[float]) -> str:
    return "#" + "".join(f"{round(part):02x}" for part in colour[:3])
