"""S15: many accounts vote the wrong way together, each no more than an honest person; the gold notices."""

import asyncio
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from rlhf_ray.feedback.ledger import Ledger

from .conftest import vote
from .test_spam import EACH, PEOPLE, filled, learned_from, statements
from serve.artefact import Artefact
from serve.gold import Gold
from serve.reward import Pair, Verdict

VOTES = 10  # of each of them


class Words:
    """A reward model of single words and pairs of them, in versions that learned from a ledger each."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.versions: dict[str, Any] = {}

    def learn(self, name: str, ledger: Path) -> Artefact:
        thumbs = learned_from(ledger, self.tokenizer).thumbs
        words = CountVectorizer(ngram_range=(1, 2), min_df=2)
        seen = words.fit_transform([row["completion"] for row in thumbs])
        model = LogisticRegression(max_iter=500).fit(seen, [row["label"] for row in thumbs])
        self.versions[name] = lambda texts: model.predict_proba(words.transform(texts))[:, 1]
        return Artefact("reward", "", None, name)

    async def judge(self, model: Artefact, pairs: list[Pair]) -> list[Any]:
        likely = self.versions[model.digest]([pair.completion for pair in pairs])
        return [Verdict(chance, chance, 1) for chance in likely.tolist()]


def join(ledger: Ledger, rows: list[dict[str, Any]], accounts: int) -> None:
    places = [(account, (account * VOTES + turn) % len(rows)) for account in range(accounts) for turn in range(VOTES)]
    ledger.append_all(
        vote(
            number,
            vote_id=f"together-{number}",
            completion_id=f"c{place}",
            person=f"together-{account}",
            label=-1 if rows[place]["label"] else 1,
        )
        for number, (account, place) in enumerate(places)
    )


def test_what_forty_and_eighty_who_vote_together_have_taught_is_not_promoted(tmp_path: Path, plain_tokenizer) -> None:
    rows = statements()
    seen, rest = rows[: PEOPLE * EACH], rows[PEOPLE * EACH :]
    gold, judge = (
        Gold([(Pair(row["prompt"], row["completion"]), bool(row["label"])) for row in rest]),
        Words(plain_tokenizer),
    )
    models, told = {}, {}
    for accounts in (0, 10, 20, 40, 80):
        with filled(tmp_path / f"{accounts}", seen) as ledger:
            join(ledger, seen, accounts)
        models[accounts] = judge.learn(str(accounts), ledger.folder)
        told[accounts] = asyncio.run(gold.complaint(judge, models[accounts], models[0]))
        print(f"{accounts} accounts: gold {asyncio.run(gold.accuracy(judge, models[accounts])):.3f}; {told[accounts]}")
    assert not told[0]
    assert told[40] and told[80]
