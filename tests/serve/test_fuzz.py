"""Whatever is sent, no answer is a fault of ours, is long, or repeats what came."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlhf_ray.feedback.ledger import Ledger
from tests.serve.conftest import application, local
from tests.serve.probe import JSON, MARK, Probe, fault

from serve.schemas import BODIES

REQUESTS = int(os.environ.get("RLHF_RAY_REQUESTS", "3000"))  # of the drill
ODD = st.sampled_from(["", "\x00", "‮", "\ud800", "<script>", "𝕏", "the quick", "a" * 3000, "9" * 5000, MARK])
NUMBERS = st.one_of(
    st.integers(-5, 40), st.sampled_from([2**63, -(2**70), 10**400]), st.floats(), st.floats(0, 2, width=32)
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, ODD, st.text(max_size=20))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD, inner, max_size=3), max_leaves=6
)
FIELDS = sorted({field for kind in BODIES.values() for field in kind.model_fields})
SAID = (
    st.sampled_from(["the quick", "pack my box", "", "‮", "<script>", "𝕏", MARK])
    | st.text("the quick", max_size=9)
    | ODD
)
PAIRS = st.lists(st.fixed_dictionaries({"prompt": SAID, "completion": SAID}), max_size=3)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "tool"]), "content": SAID}), max_size=3)
NEAR = {"prompt": SAID | st.lists(SAID, max_size=2), "input": SAID, "query": SAID, "text_1": SAID, "text_2": SAID}
NEAR |= {"incident": SAID, "completion_id": ODD, "label": st.sampled_from([1, -1])}
NEAR |= {"run": ODD | st.sampled_from(["..", "/", "a/../../b"])}
NEAR |= {"documents": st.lists(SAID, min_size=1, max_size=3), "pairs": PAIRS, "messages": MESSAGES}
NEAR |= {"max_tokens": st.integers(0, 6)}


@pytest.fixture(scope="module")
def web(generator: Any, reward: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """With a ledger, so that every door is open."""
    folder = tmp_path_factory.mktemp("ledger")
    with Ledger.open(folder, "doors") as kept, local(application(generator, reward, ledger=kept)) as client:
        yield client


@st.composite
def bodies(draw: Any) -> tuple[str, bytes]:
    """A door, and a body that is nearly right, wrong in a few places, or no body at all."""
    door = draw(st.sampled_from(sorted(BODIES)))
    fields = BODIES[door].model_fields
    body = {name: draw(NEAR[name]) for name, field in fields.items() if field.is_required() or name == "max_tokens"}
    own, mistakes = st.sampled_from(sorted(fields) or FIELDS), draw(st.sampled_from([0, 0, 1, 2]))
    for name in draw(st.lists(own | st.sampled_from(FIELDS), max_size=mistakes)):
        body[name] = draw(VALUES)
    if draw(st.integers(0, 9)) == 0:
        body[draw(ODD)] = MARK
    text = json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.binary(max_size=5)) + text[place + draw(st.integers(0, 3)) :]
    return door, text


def holds(web: Any, sent: tuple[str, bytes]) -> None:
    door, body = sent
    answer = web.post(door, content=body, headers=JSON)
    assert not fault(Probe(door, "POST", door, body), answer.status_code, answer.content, known=""), answer.text


@given(sent=bodies())
@settings(suppress_health_check=list(HealthCheck), max_examples=150)
def test_a_few_bodies(web: Any, sent: tuple[str, bytes]) -> None:
    holds(web, sent)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_bodies(web: Any) -> None:
    @given(sent=bodies())
    @settings(suppress_health_check=list(HealthCheck), max_examples=REQUESTS, derandomize=False)
    def many(sent: tuple[str, bytes]) -> None:
        holds(web, sent)

    many()
