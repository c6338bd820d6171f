"""The report page: honest, escaped, complete, self-contained and the same for the same facts."""

import html
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.evaluation.page import CURVES, alarms, number, write_page
from rlhf_ray.incidents.rubric import CRITERIA

Facts = dict[str, Any]

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "br"}
NOTHING = {"mean": None, "low": None, "high": None}
TEXT = {"distinct_2": 0.31, "repetition": 0.043, "most_repeated_share": 0.11}
REWARD_MODEL = {"rows": 400, "thumbs_up_share": 0.455, "auc": 0.964, "calibration_error": 0.037, "pairs": None}
BINS = [
    {"low": 0.0, "high": 0.1, "rows": 220, "stated": 0.03, "seen": 0.05},
    {"low": 0.9, "high": 1.0, "rows": 180, "stated": 0.97, "seen": 0.94},
]
RUN = {"folder": "runs/demo", "seed": 7, "base": "shipped", "date": "2026-01-05", "machine": "2 cores, Linux"}
MADE = {"versions": {"torch": "2.13.0"}, "stages": [{"name": "ppo", "seconds": 61.25, "peak_bytes": 700 * 2**20}]}


def around(mean: float, width: float = 0.02) -> dict[str, float]:
    return {"mean": mean, "low": mean - width, "high": mean + width}


def side(rubric: float, score: float, kl: float) -> Facts:
    means = {"rubric": rubric, "score": score, "kl": kl, "tokens": 31.4, "ended": 0.97}
    criteria = {name: around(0.1 + 0.7 * rubric + 0.02 * place) for place, name in enumerate(CRITERIA)}
    return {name: around(mean) for name, mean in means.items()} | {"criteria": criteria} | TEXT


def compared() -> Facts:
    sides = {"before": side(0.402, -0.15, 0.0), "after": side(0.653, 1.31, 6.2)}
    difference = {"rubric": around(0.251), "score": around(1.46)}
    return sides | {"difference": difference, "win_rate": {"wins": 100, "losses": 40, "ties": 60} | around(0.714, 0.07)}


def pair(prompt: str, before: str = "Unclear.", after: str = "The disk was full.") -> Facts:
    sides = {"before": (0.05, -0.4, before), "after": (0.85, 1.2, after)}
    names = ("rubric", "score", "completion")
    return {"prompt": prompt} | {name: dict(zip(names, values, strict=True)) for name, values in sides.items()}


def demo(prompt: str) -> Facts:
    means = {"rubric": around(0.5), "score": around(1.0)}
    return {name: part | means if isinstance(part, dict) else part for name, part in pair(prompt).items()}


def reward_model() -> Facts:
    return REWARD_MODEL | {
        "accuracy": around(0.912),
        "auc_interval": around(0.964, 0.01),
        "calibration": BINS,
        "length_correlation": {"all": 0.31, "within_label": -0.125},
        "accuracy_by_kind": {"vague_cause": {"rows": 120, "accuracy": 0.983}},
        "score_by_kind": {"vague_cause": {"rows": 120, "mean": -2.5, "std": 0.5}},
        "probes": {"wrong_fix": {"pairs": 100, "bag_of_words": 0.515} | around(0.955)},
        "probes_mean": 0.955,
        "bag_of_words_accuracy": 0.745,
    }


def make_facts() -> Facts:
    """Arguments of `write_page` about a run that went well."""
    keys = [curve.key for curve in CURVES]
    more = {
        "kl_limit": 12.0,
        "kl_within_limit": True,
        "judge_is_reward": False,
        "judged": True,
        "prompts": 200,
        "demo": [demo(f"demo {n}") for n in range(3)],
    }
    return {
        "results": compared() | {"heldout_wordings": compared()} | more,
        "reward_model": reward_model(),
        "metrics": [{"step": n} | {key: 0.5 + math.sin(n) / 9 + n / 60 for key in keys} for n in range(1, 31)],
        "samples": [pair(f"sample {n}") for n in range(12)],
        "run": RUN | MADE,
    }


def written(folder: Path, facts: Facts) -> str:
    write_page(folder, **facts)
    return (folder / "index.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees, with plain spaces."""
    visible = re.sub(r"<style.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", visible)).split())


class Tags(HTMLParser):
    """Asserts that every element is closed in order, and collects the attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, name: str) -> list[str]:
        return [value or "" for attribute, value in self.attributes if attribute == name]


@pytest.fixture
def facts() -> Facts:
    return make_facts()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("good"), make_facts())


def test_page_loads_nothing_and_runs_nothing(good: str) -> None:
    tags = Tags(good)
    ids = tags.all("id")
    assert len(ids) == len(set(ids))
    assert set(tags.all("href") + re.findall(r"url\(([^)]*)\)", good)) <= {f"#{name}" for name in ids}
    assert not tags.all("src")
    assert not re.search(r"https?:|<script|@import|<link|<\?xml|\son\w+=", good)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in tags.all("content")


def test_every_criterion_and_figure_appears(good: str) -> None:
    tags = Tags(good)
    once = ["tokens", "distinct_2", "repetition", "most_repeated_share"]  # not for the held-out wordings
    assert sorted(tags.all("data-figure")) == sorted(once + 2 * ["rubric", "score", "kl", "ended", *CRITERIA])
    plots = [label.split(" over PPO steps")[0] for label in tags.all("aria-label") if " over PPO steps" in label]
    assert plots == [curve.title for curve in CURVES]
    shown = words(good)
    for text in ("0.653 0.633 to 0.673", "+0.251", "31.40", "97.0 %", "4.3 %", "11.0 %", "91.2 %", "0.964", "0.037"):
        assert text in shown
    for text in (
        "vague cause 120 98.3 % −2.50",
        "wrong fix 100 95.5 % 93.5 to 97.5 % 51.5 %",
        "+0.31",
        "−0.12",
        "74.5 %",
    ):
        assert text in shown
    for text in ("demo 2", "sample 11", "ppo 61.2 700", "torch 2.13.0", "2 cores, Linux"):
        assert text in shown
    assert "The limit is 12.00." in good


def test_plots_follow_the_colours_of_the_page(good: str) -> None:
    plots = "".join(re.findall(r"<svg.*?</svg>", good, flags=re.DOTALL))
    of_page = {"currentColor", "var(--rule)", "var(--alarm)", "var(--reward)", "var(--rubric)"}
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", plots)) == of_page | {"none"}


def test_headline_says_what_happened(good: str) -> None:
    shown = words(good)
    assert "On 200 held-out prompts the rubric rose from 0.402 to 0.653." in shown
    assert "better on 71.4 % of the 140 that differ (95 % interval 64.4 to 78.4 %); 60 tied." in shown
    assert "Warning" not in shown


def test_a_page_whose_judge_was_the_reward_never_says_otherwise(tmp_path: Path, facts: Facts) -> None:
    assert "never sees" in words(written(tmp_path, facts))
    facts["results"]["judge_is_reward"] = True
    shown = words(written(tmp_path, facts))
    assert "never sees" not in shown
    assert "the judge, which this run's training did see" in shown


def test_same_facts_same_bytes(tmp_path: Path, facts: Facts, good: str) -> None:
    assert written(tmp_path, facts) == good


def test_headline_is_honest_about_a_worsened_model(tmp_path: Path, facts: Facts) -> None:
    facts["results"]["after"]["rubric"] = around(0.301)
    facts["results"]["difference"]["rubric"] = around(-0.101)
    shown = words(written(tmp_path, facts))
    assert "the rubric fell from 0.402 to 0.301: the tuned model is worse." in shown
    assert "−0.101 (95 % interval −0.121 to −0.081)" in shown
    assert "The reward is being gamed." in shown
    assert "rubric rose" not in shown


def test_headline_claims_no_rise_that_chance_explains(tmp_path: Path, facts: Facts) -> None:
    facts["results"]["difference"]["rubric"] = around(0.01, 0.03)
    assert "rubric did not clearly improve: 0.402 before, 0.653 after." in words(written(tmp_path, facts))


FAILINGS: dict[str, list[tuple[str | None, str, Any]]] = {
    "unjudged": [(None, "judge_is_reward", True)],
    "gamed": [("difference", "rubric", around(-0.01, 0.03)), ("difference", "rubric", NOTHING)],
    "far": [(None, "kl_within_limit", False)],
    "repeated": [("after", "most_repeated_share", 0.21), ("after", "most_repeated_share", math.nan)],
    "endless": [("after", "ended", around(0.89)), ("after", "ended", around(math.nan))],
    "monotonous": [("after", "distinct_2", 0.15), ("after", "distinct_2", None)],
}


def fail(results: Facts, part: str | None, name: str, value: Any) -> None:
    (results[part] if part else results)[name] = value


@pytest.mark.parametrize(("alarm", "failing"), [(name, one) for name, found in FAILINGS.items() for one in found])
def test_each_alarm_fires_alone(facts: Facts, alarm: str, failing: tuple[str | None, str, Any]) -> None:
    fail(facts["results"], *failing)
    assert [name for name, fires in alarms(facts["results"]).items() if fires] == [alarm]


def test_every_alarm_is_a_named_warning(tmp_path: Path, facts: Facts) -> None:
    for found in FAILINGS.values():
        fail(facts["results"], *found[0])
    page = written(tmp_path, facts)
    assert Tags(page).all("data-alarm") == list(FAILINGS)
    for name in (
        "Judge and reward are the same",
        "reward is being gamed",
        "over its limit",
        "answer for everything",
        "do not end",
        "Variety is lost",
    ):
        assert name in words(page)


def test_text_of_models_cannot_become_markup(tmp_path: Path, facts: Facts) -> None:
    results = facts["results"]
    facts["samples"].append(pair(HOSTILE, HOSTILE, f'"> {HOSTILE} {{{{ 7 * 7 }}}}'))
    results["demo"][0]["after"]["completion"] = facts["run"]["folder"] = facts["run"]["machine"] = HOSTILE
    facts["reward_model"]["accuracy_by_kind"][HOSTILE] = {"rows": 1, "accuracy": 1.0}
    facts["reward_model"]["score_by_kind"][HOSTILE] = {"rows": 1, "mean": 1.0, "std": 0.0}
    facts["reward_model"]["probes"][HOSTILE] = facts["reward_model"]["probes"]["wrong_fix"]
    for part in (results["before"], results["after"]):
        part["criteria"][f"$x$ {HOSTILE}"] = around(0.5)
    page = written(tmp_path, facts)
    Tags(page)
    assert "<script" not in page
    assert page.count(html.escape(HOSTILE)) >= 8
    assert "{{ 7 * 7 }}" in words(page)


def test_nothing_measured_is_a_dash_and_no_crash(tmp_path: Path, facts: Facts) -> None:
    results = facts["results"]
    results["win_rate"] = {"wins": 0, "losses": 0, "ties": 200} | NOTHING
    results["after"]["kl"] = around(math.nan)
    results["after"]["criteria"][CRITERIA[0]] = results["difference"]["score"] = NOTHING
    facts["reward_model"] |= {"auc": None, "auc_interval": None, "bag_of_words_accuracy": None}
    lone = {"step": 2, "objective/scores": 0.5}
    facts["metrics"] = [{"step": 1, "objective/kl": math.nan, "objective/scores": None}, lone]
    page = written(tmp_path, facts)
    Tags(page)
    assert "No two answers differ on the rubric" in words(page)
    assert words(page).count("Not recorded in this run.") == len(CURVES) - 1  # the reward has one step
    assert not re.search(r"\b(nan|None)\b", page)


def unjudged() -> Facts:
    """Facts about a run on prompts of one's own, for which there is no rubric."""
    facts = make_facts()
    results = facts["results"]
    results |= {"judged": False, "heldout_wordings": None, "demo": [], "win_rate": None}
    for part in (results["before"], results["after"], results["difference"], *facts["metrics"]):
        part.pop("rubric", None)
        part.pop("objective/rubric", None)
    for part in (results["before"], results["after"]):
        part["criteria"] = {}
    for sample in facts["samples"]:
        for part in ("before", "after"):
            del sample[part]["rubric"]
    return facts


def test_where_nobody_judged_the_page_says_so_and_makes_nothing_of_the_reward(tmp_path: Path) -> None:
    page = written(tmp_path, unjudged())
    Tags(page)
    assert "the reward rose from −0.150 to 1.310. Nobody judged the answers." in words(page)
    assert "does not show that answers are better" in words(page)
    assert "Demo prompts" not in words(page)
    assert not any(alarms(unjudged()["results"]).values())


def test_the_reward_model_is_drawn_as_it_was_measured(good: str) -> None:
    labels = Tags(good).all("aria-label")
    assert "Stated chance of a thumb up against the share seen: stated 0.03, seen 0.05 of 220; " in " ".join(labels)
    assert any(label.startswith("Mean score of each kind") for label in labels)


def test_a_reward_model_of_pairs_alone_has_a_page(tmp_path: Path, facts: Facts) -> None:
    unknown = {"rows": 0, "calibration": [], "accuracy_by_kind": {}, "score_by_kind": {}, "probes": {}}
    unknown |= dict.fromkeys(("thumbs_up_share", "accuracy", "auc", "auc_interval", "calibration_error", "probes_mean"))
    facts["reward_model"] |= unknown | {"pairs": {"rows": 77, "accuracy": around(0.633)}}
    page = written(tmp_path, facts)
    Tags(page)
    assert "Accuracy on 77 pairs 63.3 % 61.3 to 65.3 %" in words(page)
    assert "no held-out thumbs in this run" in words(page)
    assert 'id="reliability' not in page


def test_a_run_without_steps_samples_and_stages_has_a_page(tmp_path: Path, facts: Facts) -> None:
    facts["run"]["stages"] = facts["samples"] = facts["metrics"] = []
    Tags(written(tmp_path, facts))


def test_numbers_are_typeset() -> None:
    assert number(-0.25, signed=True) == "−0.250"
    assert number(-0.0001, signed=True) == "+0.000"
    assert number(0.5, "share") == "50.0\u00a0%"
    assert number(math.inf) == number(None) == "–"
