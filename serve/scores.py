"""The doors of the reward model: pairs of ours, and the shapes in which vLLM serves classifiers and cross-encoders."""

from typing import Any

from serve import answers
from serve.artefact import REWARD, Artefact
from serve.completions import Judge
from serve.errors import Refused, granted
from serve.orders import Refusal
from serve.schemas import Body, ClassifyBody, PairsBody, RerankBody, ScoreBody, many
from serve.verdicts import Pair, Verdict
from serve.versions import Versions


class Scores:
    """What each door makes of the reward model's verdicts. Raises Refused where it judges a pair not at all."""

    def __init__(self, judge: Judge, versions: Versions) -> None:
        self.judge, self.versions = judge, versions

    async def score_pairs(self, body: PairsBody) -> dict[str, Any]:
        model, verdicts = await self._judge(body, [Pair(pair.prompt, pair.completion) for pair in body.pairs])
        data = [
            {"index": index, "object": "score", "score": verdict.score, "probability": verdict.probability}
            for index, verdict in enumerate(verdicts)
        ]
        return answers.judged(verdicts, model, data)

    async def score(self, body: ScoreBody) -> dict[str, Any]:
        second = many(body.text_2)
        first = many(body.text_1) * (len(second) // len(many(body.text_1)))
        model, verdicts = await self._judge(body, [Pair(*pair) for pair in zip(first, second, strict=True)])
        data = [
            {"index": index, "object": "score", "score": verdict.probability} for index, verdict in enumerate(verdicts)
        ]
        return answers.judged(verdicts, model, data)

    async def classify(self, body: ClassifyBody) -> dict[str, Any]:
        model, verdicts = await self._judge(body, [Pair(text) for text in many(body.input)])
        data = [
            {
                "index": index,
                "label": "up" if verdict.probability >= 0.5 else "down",
                "probs": [1 - verdict.probability, verdict.probability],
                "num_classes": 2,
            }
            for index, verdict in enumerate(verdicts)
        ]
        return answers.judged(verdicts, model, data)

    async def rerank(self, body: RerankBody) -> dict[str, Any]:
        model, verdicts = await self._judge(body, [Pair(body.query, document) for document in body.documents])
        ranked = sorted(range(len(verdicts)), key=lambda index: -verdicts[index].probability)
        results = [
            {
                "index": index,
                "document": {"text": body.documents[index]},
                "relevance_score": verdicts[index].probability,
            }
            for index in ranked[: body.top_n]
        ]
        whole = answers.judged(verdicts, model, [])
        return {"id": "rerank", "model": model.name, "usage": whole["usage"], "results": results}

    async def _judge(self, body: Body, pairs: list[Pair]) -> tuple[Artefact, list[Verdict]]:
        """What the version that is served now says of the pairs."""
        model = self.versions.now()[REWARD]
        if body.model not in (None, model.name):
            raise Refused(Refusal(404, f"expected the model {model.name}", "model"))
        return model, [granted(verdict) for verdict in await self.judge.judge(model, pairs)]
