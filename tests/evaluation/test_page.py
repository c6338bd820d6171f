"""The report page: honest, escaped, complete, self-contained and the same for the same facts."""

import html
import math
import re
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rlhf_ray.evaluation.page import CURVES, number, write_page
from rlhf_ray.incidents.rubric import CRITERIA

HOSTILE = "<script>alert(1)</script>"
VOID = {"meta", "br", "path", "use", "rect"}
NOTHING = {"mean": None, "low": None, "high": None}


def around(mean: float, width: float = 0.02) -> dict[str, float]:
    return {"mean": mean, "low": mean - width, "high": mean + width}


def side(rubric: float, score: float, kl: float) -> dict[str, Any]:
    return {
        "rubric": around(rubric),
        "score": around(score),
        "kl": around(kl),
        "tokens": around(31.4),
        "ended": around(0.97),
        "criteria": {name: around(0.1 + 0.7 * rubric + 0.02 * place) for place, name in enumerate(CRITERIA)},
        "distinct_2": 0.31,
        "repetition": 0.043,
        "most_repeated_share": 0.11,
    }


def compared(prompts: int) -> dict[str, Any]:
    return {
        "before": side(0.402, -0.15, 0.0),
        "after": side(0.653, 1.31, 6.2),
        "difference": {"rubric": around(0.251), "score": around(1.46)},
        "win_rate": {"wins": prompts // 2, "losses": prompts // 5, "ties": prompts - prompts // 2 - prompts // 5}
        | around(0.714, 0.07),
    }


def pair(number: int, **texts: str) -> dict[str, Any]:
    return {"prompt": f"prompt {number}"} | {
        name: {"rubric": 0.25 * place, "score": 0.5 * place, "completion": texts.get(name, f"{name} {number}.")}
        for place, name in enumerate(("before", "after"), 1)
    }


def intervals(item: dict[str, Any]) -> dict[str, Any]:
    return item | {
        name: item[name] | {figure: around(item[name][figure]) for figure in ("rubric", "score")}
        for name in ("before", "after")
    }


def make_facts() -> dict[str, Any]:
    """Arguments of `write_page` about a run that went well."""
    steps = range(1, 31)
    return {
        "results": compared(200)
        | {"kl_limit": 12.0, "kl_within_limit": True, "heldout_wordings": compared(100)}
        | {"demo": [intervals(pair(n)) for n in (901, 902, 903)]},
        "reward_model": {"rows": 400, "thumbs_up_share": 0.455, "accuracy": around(0.912), "auc": 0.964}
        | {"calibration_error": 0.037, "accuracy_by_kind": {"right_cause": {"rows": 120, "accuracy": 0.983}}},
        "metrics": [
            {"step": n} | {c.key: 0.5 + math.sin(n) / 9 + n / 60 for c in CURVES if c.key != "rubric"} for n in steps
        ],
        "rubric_curve": [{"step": n, "rubric": 0.4 + 0.008 * n} for n in steps],
        "samples": [pair(n) for n in range(1, 13)],
        "run": {"folder": "runs/demo", "seed": 7, "base": "shipped", "date": "2026-01-05", "machine": "2 cores, Linux"}
        | {
            "versions": {"torch": "2.13.0", "ray": "2.60.1"},
            "stages": [{"name": "ppo", "seconds": 61.25, "peak_bytes": 734003200}],
        },
    }


@pytest.fixture
def facts() -> dict[str, Any]:
    return make_facts()


def written(folder: Path, facts: dict[str, Any]) -> str:
    write_page(folder, **facts)
    return (folder / "index.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees, with plain spaces."""
    visible = re.sub(r"<style.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", visible)).split())


class Tags(HTMLParser):
    """Checks that every element is closed in order, and collects ids and what is referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    return tags


def test_page_loads_nothing_and_runs_nothing(tmp_path: Path, facts: dict[str, Any]) -> None:
    page = written(tmp_path, facts)
    tags = parsed(page)
    ids = tags.all("id")
    assert len(ids) == len(set(ids))
    assert set(tags.all("href") + re.findall(r"url\(([^)]*)\)", page)) <= {f"#{name}" for name in ids}
    assert not tags.all("src")
    assert not re.search(r"https?:|<script|@import|<link|<\?xml| on\w+=", page)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in tags.all("content")


def test_every_criterion_and_figure_appears(tmp_path: Path, facts: dict[str, Any]) -> None:
    page = written(tmp_path, facts)
    shown, tags = words(page), parsed(page)
    for name in ("rubric", "score", "kl", "ended", *CRITERIA):
        assert tags.all("data-figure").count(name) == 2  # held-out prompts and held-out wordings
    for name in ("tokens", "distinct_2", "repetition", "most_repeated_share"):
        assert tags.all("data-figure").count(name) == 1
    assert [said.split(" over PPO")[0] for said in tags.all("aria-label") if "over PPO" in said] == [
        c.title for c in CURVES
    ]
    expected = (
        "0.653 0.633 to 0.673",
        "+0.251",
        "31.40",
        "97.0 %",
        "4.3 %",
        "11.0 %",
        "91.2 %",
        "0.964",
        "0.037",
        "98.3 %",
    )
    for text in (*expected, "700", "61.2", "torch 2.13.0", "2 cores, Linux", "2026-01-05", "prompt 903", "after 12."):
        assert text in shown
    assert "The limit is 12.00." in page


def test_plots_follow_the_colours_of_the_page(tmp_path: Path, facts: dict[str, Any]) -> None:
    plots = "".join(re.findall(r"<svg.*?</svg>", written(tmp_path, facts), flags=re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", plots)) <= {
        *("none", "currentColor", "var(--rule)", "var(--alarm)", "var(--reward)", "var(--rubric)")
    }


def test_text_of_models_cannot_become_markup(tmp_path: Path, facts: dict[str, Any]) -> None:
    facts["samples"].append(pair(13, before=HOSTILE, after=f'"> {HOSTILE} {{{{ 7 * 7 }}}}') | {"prompt": HOSTILE})
    facts["results"]["demo"][0]["after"]["completion"] = HOSTILE
    facts["run"]["folder"] = facts["run"]["machine"] = HOSTILE
    facts["reward_model"]["accuracy_by_kind"][HOSTILE] = {"rows": 1, "accuracy": 1.0}
    for compared in (facts["results"], facts["results"]["heldout_wordings"]):
        for name in ("before", "after"):
            compared[name]["criteria"][f"$x$ {HOSTILE}"] = around(0.5)
    page = written(tmp_path, facts)
    assert "<script" not in page
    assert page.count(html.escape(HOSTILE)) >= 7
    assert "{{ 7 * 7 }}" in words(page)
    parsed(page)


def test_headline_says_what_happened(tmp_path: Path, facts: dict[str, Any]) -> None:
    good = words(written(tmp_path, facts))
    assert "On 200 held-out prompts the rubric rose from 0.402 to 0.653." in good
    assert "better on 71.4 % of the 140 that differ (95 % interval 64.4 % to 78.4 %); 60 tied." in good
    assert "Warning" not in good


def test_headline_is_honest_about_a_worsened_model(tmp_path: Path, facts: dict[str, Any]) -> None:
    facts["results"]["after"]["rubric"] = around(0.301)
    facts["results"]["difference"]["rubric"] = around(-0.101)
    shown = words(written(tmp_path, facts))
    assert "the rubric fell from 0.402 to 0.301: the tuned model is worse." in shown
    assert "−0.101 (95 % interval −0.121 to −0.081)" in shown
    assert "rubric rose" not in shown


def test_headline_claims_no_rise_that_chance_explains(tmp_path: Path, facts: dict[str, Any]) -> None:
    facts["results"]["difference"]["rubric"] = around(0.01, 0.03)
    shown = words(written(tmp_path, facts))
    assert "did not clearly improve: 0.402 before, 0.653 after." in shown
    assert "rubric rose" not in shown


@pytest.mark.parametrize(
    ("alarm", "name", "path", "value"),
    [
        ("gamed", "The reward model is being gamed.", ("difference", "rubric"), around(-0.01, 0.03)),
        ("far", "KL is over its limit.", ("kl_within_limit",), False),
        ("repeated", "One answer for everything.", ("after", "most_repeated_share"), 0.21),
        ("endless", "Answers do not end.", ("after", "ended"), around(0.89)),
        ("endless", "Answers do not end.", ("after", "ended"), around(math.nan)),
        ("monotonous", "Variety is lost.", ("after", "distinct_2"), 0.15),
    ],
)
def test_each_warning_fires_alone(
    tmp_path: Path, facts: dict[str, Any], alarm: str, name: str, path: tuple[str, ...], value: object
) -> None:
    part = facts["results"]
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    page = written(tmp_path, facts)
    assert parsed(page).all("data-alarm") == [alarm]
    assert name in words(page)


def test_nothing_measured_is_a_dash_and_no_crash(tmp_path: Path, facts: dict[str, Any]) -> None:
    results = facts["results"]
    results["win_rate"] = {"wins": 0, "losses": 0, "ties": 200} | NOTHING
    results["after"]["kl"] = around(math.nan)
    results["after"]["criteria"][CRITERIA[0]] = dict(NOTHING)
    results["difference"]["score"] = dict(NOTHING)
    facts["reward_model"]["auc"] = math.nan
    facts["metrics"] = [
        {"step": 1, "objective/kl": math.nan, "objective/scores": None},
        {"step": 2, "objective/scores": 0.5},
    ]
    page = written(tmp_path, facts)
    parsed(page)
    shown = words(page)
    assert "No two answers differ on the rubric" in shown
    assert shown.count("Not recorded in this run.") == len(CURVES) - 2  # reward has a step, the rubric all
    assert not re.search(r"\b(nan|None)\b", shown)


def test_a_run_without_steps_samples_and_stages_has_a_page(tmp_path: Path, facts: dict[str, Any]) -> None:
    facts["run"]["stages"] = facts["samples"] = facts["metrics"] = facts["rubric_curve"] = []
    parsed(written(tmp_path, facts))


def test_same_facts_same_bytes(tmp_path: Path, facts: dict[str, Any]) -> None:
    write_page(tmp_path, **deepcopy(facts))
    first = (tmp_path / "index.html").read_bytes()
    write_page(tmp_path, **facts)
    assert (tmp_path / "index.html").read_bytes() == first


def test_numbers_are_typeset() -> None:
    assert number(-0.25, signed=True) == "−0.250"
    assert number(-0.0001, signed=True) == "+0.000"
    assert number(0.5, "share") == "50.0\u00a0%"
    assert number(math.inf) == number(None) == "–"
