"""The pictures of the documentation: `python -m tests.serve.browser.pictures docs/pictures`.

Nothing is trained for them. Statements of the demo's world stand in for the models' answers, the rubric with some
noise for the reward model, and what the dashboard shows are votes by simulated people over a day.
"""

import io
import sys
import tempfile
from base64 import b64decode
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from PIL import Image

from rlhf_ray.feedback.entries import Completion, Vote
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.incidents.incident import Incident, read_prompt
from rlhf_ray.incidents.rubric import judge
from rlhf_ray.incidents.statements import write
from rlhf_ray.incidents.world import make_prompts
from rlhf_ray.seeds import derive
from tests.serve.browser.chromium import Chromium, find_chromium
from tests.serve.browser.site import Speaker, Weigher, site

from serve.orders import Order
from serve.reward import Pair

PAIRS, HOURS, COLOURS, SCALE = 130, 26, 64, 1.5
PLAIN = ("vague", "restated", "no_resolution", "wrong_cause", "good")


def stand_in(name: str, order: Order) -> str:
    """The tuned model mostly writes a whole analysis, the SFT model whatever authors write."""
    rng = Random(derive("picture", name, order.prompt))
    kind = "good" if name == "tuned" and rng.random() < 0.85 else rng.choice(PLAIN)
    return write(kind, incident_in(str(order.prompt)), rng)


class Rubric(Weigher):
    def chance(self, pair: Pair) -> float:
        quality = judge(incident_in(pair.prompt), pair.completion or "").score
        return min(0.98, max(0.03, quality + Random(derive("doubt", pair.completion)).gauss(0, 0.12)))


def incident_in(prompt: str) -> Incident:
    try:
        return read_prompt(prompt)
    except ValueError:
        return Incident("API latency spike")


def fill(ledger: Ledger) -> None:
    """A day of votes, on pairs."""
    rng = Random(5)
    for place, row in enumerate(make_prompts(PAIRS, 5, heldout=False)):
        time = ledger.now() - timedelta(hours=HOURS * rng.random() ** 1.4)
        person = f"visitor:{rng.randrange(9)}"
        for name in ("tuned", "sft"):
            completion = given(name, row["prompt"], f"pair-{place}", time)
            chance = Rubric().chance(Pair(completion.prompt, completion.completion))
            label = 1 if rng.random() < 0.1 + 0.8 * chance else -1
            ledger.append_all([completion, vote_on(completion, person, label, chance)])


def given(name: str, prompt: str, pair: str, time: datetime) -> Completion:
    model = Speaker(name, stand_in).about()
    return Completion(
        completion_id=f"{pair}-{name}",
        prompt=prompt,
        completion=stand_in(name, Order(prompt, 0)),
        model_version=model.version,
        model_digest=model.digest,
        arm=name,
        pair=pair,
        time=time,
    )


def vote_on(completion: Completion, person: str, label: int, chance: float) -> Vote:
    return Vote(
        vote_id=f"vote-{completion.completion_id}",
        completion_id=completion.completion_id,
        person=person,
        label=label,
        score=chance,
        probability=chance,
        judge=Rubric().about().version,
        time=completion.time,
    )


def take(browser: Chromium, path: Path, width: int, begin: str = "header", end: str = "main") -> None:
    """From the top of one element to the bottom of another."""
    high, low = browser.run(
        "return [document.querySelector(arguments[0]).getBoundingClientRect().top + scrollY,"
        " document.querySelector(arguments[1]).getBoundingClientRect().bottom + scrollY]",
        begin,
        end,
    )
    clip = {"x": 0, "y": high, "width": width, "height": low - high, "scale": SCALE}
    shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    picture = Image.open(io.BytesIO(b64decode(shot["data"]))).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def vote_on_two(browser: Chromium, address: str) -> None:
    browser.go(f"{address}/")
    browser.one("#examples button").click()
    browser.one("#two").click()
    browser.one("#ask").click()
    browser.one("#answers .thumbs")
    texts = browser.all("#answers .said")
    better = max(range(2), key=lambda place: len(texts[place].text))
    browser.press(*(("1", "4") if better == 0 else ("3", "2")))
    browser.wait(lambda: [each.is_displayed() for each in browser.all("#answers .verdict")] == [True, True] or None)
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    found = find_chromium()
    assert found, "expected chromium and chromedriver"
    browser = Chromium(*found)
    with tempfile.TemporaryDirectory() as place:
        with Ledger.open(Path(place), "past") as ledger:
            fill(ledger)
        with site(Path(place), stand_in, Rubric()) as address:
            for name, width, scheme, begin in (
                ("page", 1120, "light", "header"),
                ("page-dark", 1120, "dark", "header"),
                ("page-phone", 390, "light", "#answered"),
            ):
                browser.show(width, 900, scheme)
                vote_on_two(browser, address)
                take(browser, folder / f"{name}.png", width, begin, "#answered")
            browser.show(1120, 900)
            browser.go(f"{address}/dashboard")
            browser.wait_for_text("#lead", "of them Good")
            take(browser, folder / "dashboard.png", 1120)
    browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
