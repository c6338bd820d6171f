"""What counting words achieves with the same thumbs: a probe that it passes says little about a reward model."""

import re

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from rlhf_ray.data.tables import Row
from rlhf_ray.evaluation.pairs import prefers_chosen


class BagOfWords:
    """A logistic regression on how often each word stands in a completion, or in prompt and completion.

    The thumbs are rows of `prompt, completion, label` and must have both labels.
    """

    def __init__(self, thumbs: list[Row], *, with_prompt: bool = False) -> None:
        self.with_prompt = with_prompt
        self.model = make_pipeline(CountVectorizer(analyzer=_words), LogisticRegression(max_iter=2000))
        self.model.fit([self._text(row) for row in thumbs], [row["label"] for row in thumbs])

    def score(self, rows: list[Row]) -> list[float]:
        """The log-odds of a thumb up for each `prompt, completion`."""
        return [float(value) for value in self.model.decision_function([self._text(row) for row in rows])]

    def accuracy(self, thumbs: list[Row]) -> float:
        says = self.score(thumbs)
        return float(np.mean([(said > 0) == row["label"] for said, row in zip(says, thumbs, strict=True)]))

    def accuracy_on_pairs(self, pairs: list[Row]) -> float:
        return float(np.mean(prefers_chosen(self.score, pairs)))

    def _text(self, row: Row) -> str:
        return f"{row['prompt']}\n{row['completion']}" if self.with_prompt else row["completion"]


def _words(text: str) -> list[str]:
    """Words as scikit-learn counts them, and one that every text has, since some texts are nothing but emoji."""
    return ["", *re.findall(r"\b\w\w+\b", text.lower())]
