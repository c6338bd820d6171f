"""The pages as they are written and as they are served: nothing in them can run but their own files."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from rlhf_ray.feedback.ledger import Ledger
from tests.serve.conftest import application, local

from serve.keys import Keys, issue

FOLDER = Path(__file__).parent.parent.parent / "serve" / "page"
PAGES, SCRIPTS, STYLES = (sorted(FOLDER.glob(f"*.{kind}")) for kind in ("html", "js", "css"))
VOID = {"meta", "link", "input", "br", "path"}
# What makes markup, code or style out of text.
DANGEROUS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|setHTML"
    r"|\beval\b|\bFunction\(|javascript:|\bimport\(|\.style\b|[\"']style[\"']|setAttribute\([\"'`]on|\.on\w+ ="
)


class Page(HTMLParser):
    """A page's elements with their attributes, and each label's and button's text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[int] = []
        self.texts: dict[int, str] = {}
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open, f"{path.name}: never closed: {[self.elements[place] for place in self.open]}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self.open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.texts[place] = self.texts.get(place, "") + data.strip()

    def having(self, attribute: str) -> list[str]:
        return [value or "" for _, attributes in self.elements if (value := attributes.get(attribute, "")) != ""]

    def texts_of(self, tag: str) -> list[str]:
        return [self.texts.get(place, "") for place, (name, _) in enumerate(self.elements) if name == tag]


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request: pytest.FixtureRequest) -> Page:
    return Page(request.param)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_makes_no_markup_code_or_style_of_text(path: Path) -> None:
    assert not DANGEROUS.findall(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_is_there(path: Path) -> None:
    for names, name in re.findall(r'^import (.+) from "\./(.+)";$', path.read_text(encoding="utf-8"), re.MULTILINE):
        exported = set(re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", read(name), re.MULTILINE))
        if not names.startswith("*"):
            assert set(re.findall(r"\w+", names)) <= exported, f"{path.name} imports from {name}"
    assert path.read_text(encoding="utf-8").count("import ") == len(re.findall(r"^import ", read(path.name), re.M))


def test_scripts_look_up_elements_that_their_page_has() -> None:
    for name in ("ask", "dashboard"):
        ids = set(Page(FOLDER / f"{name}.html").having("id"))
        wanted = set(re.findall(r'\bat\("([\w-]+)"\)', read(f"{name}.js")))
        filled = {
            f for found in re.findall(r'\bfill\("(\w+)"', read(f"{name}.js")) for f in (found, f"{found}-finding")
        }
        assert wanted | filled <= ids
        assert wanted


def test_a_page_has_no_script_style_or_handler_within(page: Page) -> None:
    for tag, attributes in page.elements:
        assert tag != "style"
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert tag != "script" or attributes.keys() == {"type", "src"}
    assert not [text for text in page.texts_of("script") if text]


def test_a_page_asks_nobody_else(page: Page) -> None:
    for address in chain(page.having("src"), page.having("href")):
        assert address in ("/", "/dashboard") or (FOLDER / address.removeprefix("/page/")).is_file()
    assert not page.having("action")


def test_every_field_has_a_label_and_every_button_a_name(page: Page) -> None:
    labels = set(page.having("for"))
    inside = [place for place, (tag, _) in enumerate(page.elements) if tag == "label"]
    for place, (tag, attributes) in enumerate(page.elements):
        if tag in ("input", "textarea"):
            assert attributes["id"] in labels or place - 1 in inside, attributes
    assert all(chain(page.texts_of("button"), page.texts_of("label"), page.texts_of("legend")))
    assert page.having("lang") == ["en"]
    assert all(page.texts_of("title"))


def test_ids_are_unique_and_what_refers_to_one_finds_it(page: Page) -> None:
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    for attribute in ("for", "aria-labelledby", "aria-describedby"):
        assert {name for value in page.having(attribute) for name in value.split()} <= set(ids)


def test_headings_leave_no_level_out(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False))


def test_colours_stand_in_one_place() -> None:
    for path in STYLES:
        rules = re.sub(r":root \{.*?\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.findall(r"#[0-9a-f]{3,8}\b(?![^;{]*\{)|\brgba?\(|\bhsla?\(|\bopacity|color-mix", rules)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_and_controls_stand_out(scheme: str) -> None:
    colours = palette(scheme)
    for ground in ("paper", "panel"):
        for words in ("ink", "quiet", "accent"):
            assert contrast(colours[words], colours[ground]) >= 4.5, (words, ground)
        assert contrast(colours["edge"], colours[ground]) >= 3, ("edge", ground)
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5


def test_contrast_is_what_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


def palette(scheme: str) -> dict[str, str]:
    """The colours of look.css by name. Dark ones replace light ones."""
    light, dark = re.findall(r":root \{(.*?)\}", read("look.css"), re.DOTALL)
    blocks = [light, dark] if scheme == "dark" else [light]
    return dict(chain.from_iterable(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block) for block in blocks))


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def web(generator, reward, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with (
        Ledger.open(tmp_path_factory.mktemp("ledger"), "doors") as ledger,
        local(application(generator, reward, ledger=ledger)) as client,
    ):
        yield client


@pytest.mark.parametrize("door", ["/", "/dashboard"])
def test_a_browser_may_do_nothing_with_a_page_but_what_it_is_for(web: TestClient, door: str) -> None:
    answer = web.get(door)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert {policy.pop(name) for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    nothing = ("default-src", "frame-ancestors", "base-uri", "form-action", "trusted-types")
    assert policy == dict.fromkeys(nothing, "'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


def test_whoever_comes_to_a_page_is_known_again_by_a_cookie_no_script_can_read(web: TestClient) -> None:
    web.cookies.clear()
    cookie = web.get("/").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "set-cookie" not in web.get("/").headers, "known by now"
    web.cookies.clear()


@pytest.mark.parametrize("path", [*SCRIPTS, *STYLES, FOLDER / "icon.svg"], ids=lambda path: path.name)
def test_a_file_is_served_as_what_it_is(web: TestClient, path: Path) -> None:
    answer = web.get(f"/page/{path.name}")
    assert answer.content == path.read_bytes()
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"].startswith(kinds[path.suffix])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"], "an image can be opened by itself"
    again = web.get(f"/page/{path.name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["ask.html", "none.js", "../keys.py", "..%2fkeys.py", "%2e%2e%2fkeys.py", "answers"])
def test_nothing_else_is_served(web: TestClient, name: str) -> None:
    assert web.get(f"/page/{name}").status_code == 404


def test_without_a_ledger_there_are_no_pages(generator, reward) -> None:
    with local(application(generator, reward)) as client:
        assert [client.get(door).status_code for door in ("/", "/dashboard", "/page/ask.js")] == [404] * 3


def test_pages_need_no_key_and_what_they_show_does(generator, reward, tmp_path: Path) -> None:
    issue(tmp_path / "keys", "ops", ["admin"])
    keys = Keys.read(tmp_path / "keys")
    with (
        Ledger.open(tmp_path / "ledger", "doors") as ledger,
        local(application(generator, reward, ledger=ledger, keys=keys)) as client,
    ):
        doors = ["/page/ask.js", "/dashboard", "/dashboard/data"]
        assert [client.get(door).status_code for door in doors] == [200, 200, 401]
        assert client.get("/v1/feedback").status_code == 200, "of a visitor, whom the dashboard's page welcomed"
