"""What there is to know about a data set before anything is trained on it."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from sklearn.metrics import roc_auc_score
from transformers import PreTrainedTokenizerBase

from rlhf_ray.data.tables import Row
from rlhf_ray.feedback.agreement import Verdict, agreement
from rlhf_ray.feedback.intake import kind_of
from rlhf_ray.feedback.split import plain
from rlhf_ray.feedback.warnings import warnings_of

JSON, MARKDOWN = "data_report.json", "data_report.md"
_TEMPLATES = Environment(  # noqa: S701  (Markdown, not HTML)
    loader=PackageLoader("rlhf_ray.feedback"), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
)


def data_report(
    thumbs: list[Row],
    pairs: list[Row],
    heldout: list[Row],
    heldout_pairs: list[Row],
    rejected: list[Row],
    tokenizer: PreTrainedTokenizerBase,
    unasked: int = 0,
    suspects: Sequence[Row] = (),
) -> dict[str, Any]:
    """All facts, and `warnings` in words. `unasked` counts prompts that PPO leaves out since they are too long,
    `suspects` are newcomers.suspects.

    The keys are described in docs/feedback.md.
    """
    reasons = Counter(kind_of(row["reason"]) for row in rejected)
    repeats = _repeats(thumbs + heldout) + _repeats(pairs + heldout_pairs)
    facts = {
        "thumbs": {"train": _thumbs(thumbs), "heldout": _thumbs(heldout)},
        "pairs": {"train": _pairs(pairs), "heldout": _pairs(heldout_pairs)},
        "unasked_prompts": unasked,
        "duplicates": {"kept": repeats, "rejected": reasons["duplicate"]},
        "conflicts": _conflicts(thumbs + heldout),
        "raters": _raters(thumbs + heldout, pairs + heldout_pairs),
        "suspects": list(suspects),
        "agreement": {
            "thumbs": agreement(map(_thumb_verdict, thumbs + heldout)),
            "pairs": agreement(map(_pair_verdict, pairs + heldout_pairs)),
        },
        "lengths": _lengths(thumbs + heldout, pairs + heldout_pairs, tokenizer),
        "leakage": _leakage(thumbs + pairs, heldout + heldout_pairs),
        "rejected": {"rows": len(rejected), "by_reason": dict(reasons.most_common())},
    }
    return facts | {"warnings": warnings_of(facts)}


def write_data_report(report: dict[str, Any], folder: Path) -> None:
    """`data_report.json` for programs and `data_report.md` for people."""
    (folder / JSON).write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")
    words = _TEMPLATES.get_template(MARKDOWN).render(report)
    (folder / MARKDOWN).write_text(words, encoding="utf-8")


def in_a_few_lines(report: dict[str, Any]) -> str:
    """How much there is of what, and every warning."""
    thumbs, pairs = report["thumbs"], report["pairs"]
    lines = []
    if thumbs["train"]["rows"] or thumbs["heldout"]["rows"]:
        lines.append(f"{thumbs['train']['rows']} thumbs ({_percent(thumbs['train']['up_share'])} up)")
        lines[-1] += f", {thumbs['heldout']['rows']} held out"
    if pairs["train"]["rows"] or pairs["heldout"]["rows"]:
        lines.append(f"{pairs['train']['rows']} pairs, {pairs['heldout']['rows']} held out")
    lines += [f"{report['rejected']['rows']} rows rejected"] if report["rejected"]["rows"] else []
    return "\n".join(["; ".join(lines), *(f"warning: {warning}" for warning in report["warnings"])])


def _thumbs(rows: list[Row]) -> dict[str, Any]:
    return {"rows": len(rows), "prompts": _prompts(rows), "up_share": _mean([row["label"] for row in rows])}


def _pairs(rows: list[Row]) -> dict[str, Any]:
    margins = [row["margin"] for row in rows]
    return {"rows": len(rows), "prompts": _prompts(rows), "with_margin": sum(margin > 0 for margin in margins)}


def _prompts(rows: list[Row]) -> int:
    return len({row["prompt"] for row in rows})


def _repeats(rows: list[Row]) -> int:
    """Rows that say what another said by the same rater."""
    said = [tuple(value for name, value in row.items() if name not in ("created_at", "kind", "margin")) for row in rows]
    return len(said) - len(set(said))


def _conflicts(thumbs: list[Row]) -> dict[str, int]:
    """Completions of a prompt that have both labels, and their rows."""
    labels = defaultdict(list)
    for row in thumbs:
        labels[row["prompt"], row["completion"]].append(row["label"])
    both = [found for found in labels.values() if len(set(found)) > 1]
    return {"items": len(both), "rows": sum(map(len, both)), "of_items": len(labels)}


def _raters(thumbs: list[Row], pairs: list[Row]) -> dict[str, dict[str, Any]]:
    """How much each known rater said, those with most first, and the share of their thumbs that is up."""
    labels: dict[str | None, list[bool]] = defaultdict(list)
    for row in thumbs:
        labels[row.get("rater")].append(row["label"])
    choices = Counter(row.get("rater") for row in pairs)
    known = {rater for rater in (*labels, *choices) if rater is not None}
    most_first = sorted(known, key=lambda rater: (-len(labels[rater]) - choices[rater], rater))
    return {
        rater: {"thumbs": len(labels[rater]), "pairs": choices[rater], "up_share": _mean(labels[rater])}
        for rater in most_first
    }


def _thumb_verdict(row: Row) -> Verdict:
    return (row["prompt"], row["completion"]), row.get("rater"), row["label"]


def _pair_verdict(row: Row) -> Verdict:
    sides = sorted((row["chosen"], row["rejected"]))
    return (row["prompt"], *sides), row.get("rater"), row["chosen"] == sides[0]


def _lengths(thumbs: list[Row], pairs: list[Row], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Words and tokens of the completions, by what was said of them, and how well their length alone tells that."""
    texts = {
        "up": [row["completion"] for row in thumbs if row["label"]],
        "down": [row["completion"] for row in thumbs if not row["label"]],
        "chosen": [row["chosen"] for row in pairs],
        "rejected": [row["rejected"] for row in pairs],
    }
    tokens = {name: _token_counts(found, tokenizer) for name, found in texts.items()}
    sides = {
        name: {"words": _middle([len(text.split()) for text in found]), "tokens": _middle(tokens[name])}
        for name, found in texts.items()
        if found
    }
    longer = [
        0.5 if chosen == rejected else float(chosen > rejected)
        for chosen, rejected in zip(tokens["chosen"], tokens["rejected"], strict=True)
    ]
    labels = [True] * len(tokens["up"]) + [False] * len(tokens["down"])
    both = bool(tokens["up"] and tokens["down"])
    auc = float(roc_auc_score(labels, tokens["up"] + tokens["down"])) if both else None
    return {"by_label": sides, "auc_of_length": auc, "longer_is_chosen": _mean(longer)}


def _token_counts(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    if not texts:
        return []
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]]


def _leakage(train: list[Row], heldout: list[Row]) -> dict[str, int]:
    """Held-out prompts that training has, too: to the letter, and those it has but for case and white space."""
    seen = {row["prompt"] for row in train}
    alike = {plain(prompt) for prompt in seen}
    measured = {row["prompt"] for row in heldout}
    return {
        "prompts": len(measured & seen),
        "near_copies": sum(plain(prompt) in alike for prompt in measured - seen),
    }


def _middle(counts: Sequence[int]) -> dict[str, float]:
    return {"mean": fmean(counts), "median": float(median(counts))}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.0%}"
