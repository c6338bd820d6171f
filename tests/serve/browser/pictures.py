"""The pictures of the documentation: `python -m tests.serve.browser.pictures RUN docs/pictures`.

RUN is a finished run of configs/rca/tiny.yaml, whose tuned, SFT and reward models answer and judge. What the dashboard
shows are votes by simulated people over a day, on answers about incidents that nothing was trained on.
"""

import asyncio
import io
import sys
import tempfile
from base64 import b64decode
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from random import Random

from PIL import Image

from rlhf_ray.feedback.entries import Completion, Vote
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.incidents.incident import read_prompt
from rlhf_ray.incidents.raters import deserves_thumb_up, gather_raters
from rlhf_ray.incidents.rubric import judge
from rlhf_ray.incidents.world import make_prompts, quality
from tests.serve.browser.chromium import Chromium, find_chromium
from tests.serve.browser.site import opened

from serve.artefact import artefact_of_run
from serve.errors import granted
from serve.generation import Generation
from serve.generator import Generator
from serve.orders import Order
from serve.reward import Judging, Pair, Reward

PAIRS, HOURS, PEOPLE, NOISE = 130, 26, 9, 0.06
COLOURS, SCALE = 64, 1.5
GENERATION = Generation(slots=32, prompt_tokens=80, response_tokens=80, queue=PAIRS)
Speakers = Mapping[str, Generator]


async def fill(ledger: Ledger, speakers: Speakers, reward: Reward) -> None:
    """A day of votes, on pairs."""
    rng = Random(5)
    people = gather_raters(PEOPLE, NOISE, rng)
    rows = make_prompts(PAIRS, 5, heldout=True)
    for name, speaker in speakers.items():
        answers = await asyncio.gather(
            *(speaker.complete(Order(row["prompt"], seed, as_trained=True)) for seed, row in enumerate(rows))
        )
        hours = Random(6)  # the same for both of a pair
        for place, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            person = people[place % PEOPLE]
            completion = Completion(
                completion_id=f"pair-{place}-{name}",
                prompt=row["prompt"],
                completion=granted(answer).said[0].text,
                model_version=speaker.model.version,
                model_digest=speaker.model.digest,
                arm=name,
                pair=f"pair-{place}",
                time=ledger.now() - timedelta(hours=HOURS * hours.random() ** 1.4),
            )
            label = person.votes_up(quality(row | {"completion": completion.completion}), rng)
            ledger.append_all([completion, vote_on(completion, person.name, label, reward)])


def vote_on(completion: Completion, person: str, label: bool, reward: Reward) -> Vote:
    verdict = granted(reward.judge([Pair(completion.prompt, completion.completion)])[0])
    return Vote(
        vote_id=f"vote-{completion.completion_id}",
        completion_id=completion.completion_id,
        person=person,
        label=1 if label else -1,
        score=verdict.score,
        probability=verdict.probability,
        judge=reward.model.version,
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
    """As somebody would who knows what a whole analysis is."""
    browser.go(f"{address}/")
    browser.one("#examples button").click()
    browser.one("#two").click()
    browser.one("#ask").click()
    browser.one("#answers .thumbs")
    prompt = browser.text("#asked")
    good = [deserves_thumb_up(judge(read_prompt(prompt), text.text).score) for text in browser.all("#answers .said")]
    browser.press("1" if good[0] else "2", "3" if good[1] else "4")
    browser.wait(lambda: [each.is_displayed() for each in browser.all("#answers .verdict")] == [True, True] or None)
    browser.run("document.activeElement.blur(); scrollTo(0, 0)")


def main(run: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    found = find_chromium()
    assert found, "expected chromium and chromedriver"
    speakers = {name: Generator(artefact_of_run(run, name), GENERATION) for name in ("tuned", "sft")}
    reward = Reward(artefact_of_run(run, "reward"), Judging(most_tokens=161))
    browser = Chromium(*found)
    with tempfile.TemporaryDirectory() as place:
        with Ledger.open(Path(place), "past") as ledger:
            asyncio.run(fill(ledger, speakers, reward))
        with opened(Path(place), speakers, reward) as address:
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
    for speaker in speakers.values():
        speaker.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
