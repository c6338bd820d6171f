"""The engine without HTTP and without Ray: rows join and leave, and none hears of another."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from serve.engine import Busy, Engine
from serve.generation import Generation
from serve.generator import joined_by_sample
from serve.orders import Order, Said

SIZE = Generation(slots=8, prompt_tokens=24, response_tokens=32, queue=8)
ORDER = Order("", seed=11, samples=1, temperature=1.0)
PROMPT = [7, 20, 31, 9]


@pytest.fixture(scope="module")
def engine(policy_folder: str) -> Iterator[Engine]:
    engine = Engine(policy_folder, SIZE)
    yield engine
    engine.close()


class Listener:
    """Hears an order to its end; hangs up after so many tokens if it is told to."""

    def __init__(self, engine: Engine, order: Order, *, streams: bool = False, hang_up_after: int = 10**9) -> None:
        self.heard: list[Said] = []
        self.left, self.hang_up_after, self.over = order.samples, hang_up_after, threading.Event()
        self.ticket = engine.submit(order, PROMPT, self.hear, streams=streams)

    def hear(self, ticket, said: list[Said]) -> None:
        self.heard += said
        self.left -= sum(piece.finish is not None for piece in said)
        if sum(len(piece.tokens) for piece in self.heard) >= self.hang_up_after:
            ticket.cancel()
            self.over.set()
        if not self.left:
            self.over.set()

    def result(self) -> list[Said]:
        assert self.over.wait(60)
        return self.heard


def crowd(engine: Engine, seed: int) -> list[Listener]:
    """Orders of all kinds, of which some hang up."""
    chance, listeners = random.Random(seed), []
    for number in range(6):
        order = Order("", number, temperature=chance.choice([0.0, 0.7, 1.3]), top_p=chance.choice([1.0, 0.8]))
        order = replace(order, most_tokens=chance.randint(1, 32), alternatives=chance.choice([None, 3]))
        after = chance.choice([2, 10**9])
        listeners.append(Listener(engine, order, streams=after == 2 or chance.random() < 0.5, hang_up_after=after))
    return listeners


def test_the_same_seed_says_the_same_bits_whatever_else_is_running(engine: Engine) -> None:
    order = replace(ORDER, samples=2)
    alone = Listener(engine, order).result()
    assert alone[0].tokens != alone[1].tokens, "samples draw from numbers of their own"
    for seed in range(6):
        neighbours = crowd(engine, seed)
        assert Listener(engine, order).result() == alone
        for neighbour in neighbours:
            neighbour.result()


def test_a_stream_tells_what_the_whole_answer_is(engine: Engine) -> None:
    order = replace(ORDER, samples=3, alternatives=2)
    whole = Listener(engine, order).result()
    pieces = Listener(engine, order, streams=True).result()
    for sample in range(3):
        mine = [piece for piece in pieces if piece.sample == sample]
        assert "".join(piece.text for piece in mine) == whole[sample].text
        for part in ("tokens", "logprobs", "spelled", "alternatives"):
            assert [each for piece in mine for each in getattr(piece, part)] == getattr(whole[sample], part)
        assert [piece.finish for piece in mine][-1] == whole[sample].finish


def test_a_slow_listener_hears_each_sample_once_and_all_of_it(engine: Engine) -> None:
    order = replace(ORDER, samples=3, alternatives=2)
    joined = joined_by_sample(Listener(engine, order, streams=True).result())
    assert sorted(joined, key=lambda said: said.sample) == Listener(engine, order).result()


def test_who_hangs_up_costs_no_further_token(engine: Engine) -> None:
    before = engine.drawn
    listener = Listener(engine, ORDER, streams=True, hang_up_after=5)
    listener.result()
    Listener(engine, replace(ORDER, most_tokens=1)).result()  # by then the engine has let go
    heard = sum(len(piece.tokens) for piece in listener.heard)
    assert engine.drawn - before <= heard + 2


def test_a_stop_string_ends_the_text_before_it(engine: Engine) -> None:
    text = Listener(engine, ORDER).result()[0].text
    stop = text[6:9]
    said = Listener(engine, replace(ORDER, stop=(stop, "never said"))).result()[0]
    assert said.text == text[: text.index(stop)]
    assert said.finish == "stop"
    streamed = Listener(engine, replace(ORDER, stop=(stop, "never said")), streams=True).result()
    assert "".join(piece.text for piece in streamed) == said.text


def test_the_likeliest_tokens_stand_beside_the_one_that_was_drawn(engine: Engine) -> None:
    said = Listener(engine, replace(ORDER, temperature=0.0, alternatives=3)).result()[0]
    assert len(said.spelled) == len(said.alternatives) == len(said.tokens)
    for name, likely, others in zip(said.spelled, said.logprobs, said.alternatives, strict=True):
        assert others[0] == (name, pytest.approx(likely, abs=1e-5)), "greedy is the first of them"
        assert len(others) == 3


def test_beyond_the_queue_nobody_is_admitted(policy_folder: str) -> None:
    engine = Engine(policy_folder, SIZE.model_copy(update={"slots": 1, "queue": 1}))
    gate = threading.Event()
    engine.deliver = lambda parcel: gate.wait(60)  # the engine stands still after the first token
    try:
        engine.submit(ORDER, PROMPT, print, streams=True)
        while engine.waiting:
            pass
        engine.submit(ORDER, PROMPT, print)
        with pytest.raises(Busy):
            engine.submit(ORDER, PROMPT, print)
    finally:
        gate.set()
        engine.close()


def test_who_hung_up_while_waiting_keeps_no_place(policy_folder: str) -> None:
    engine = Engine(policy_folder, SIZE.model_copy(update={"slots": 1, "queue": 2}))
    gate = threading.Event()
    engine.deliver = lambda parcel: gate.wait(60)
    try:
        engine.submit(ORDER, PROMPT, print, streams=True)
        while engine.waiting:
            pass
        engine.submit(ORDER, PROMPT, print)
        gone = engine.submit(ORDER, PROMPT, print)
        with pytest.raises(Busy):
            engine.submit(ORDER, PROMPT, print)
        gone.cancel()
        engine.submit(ORDER, PROMPT, print)
    finally:
        gate.set()
        engine.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_was_said_before_an_engine_died_is_handed_out(policy_folder: str) -> None:
    """Two rows end in one step; the text of the second cannot be made."""
    engine = Engine(policy_folder, SIZE)
    begin, told = threading.Event(), {name: threading.Event() for name in ("first", "second")}
    heard: dict[str, list] = {}

    def hear(name: str, said: list) -> None:
        heard[name] = said
        told[name].set()

    def fail() -> None:
        raise RuntimeError("no such token")

    say = engine.slots.say
    engine.slots.say = lambda tokens: (begin.wait(60), say(tokens))[1]
    order = replace(ORDER, most_tokens=2, temperature=0.0)
    engine.submit(order, PROMPT, lambda _, said: hear("first", said))
    engine.submit(order, PROMPT, lambda _, said: hear("second", said))
    while len(engine.rows) < 2:
        pass
    list(engine.rows.values())[1].whole = fail
    begin.set()
    assert all(each.wait(60) for each in told.values())
    assert len(heard["first"]) == 1
    assert heard["second"] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_engine_that_dies_tells_everyone_and_is_not_well(policy_folder: str) -> None:
    engine = Engine(policy_folder, SIZE)
    told = threading.Event()
    heard: list = []

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    engine.slots.read = fail
    engine.submit(ORDER, PROMPT, lambda ticket, said: (heard.append(said), told.set()))
    assert told.wait(60)
    engine.thread.join(60)
    assert heard == [[]]
    assert not engine.is_well(60)
    with pytest.raises(RuntimeError, match="has stopped"):
        engine.submit(ORDER, PROMPT, print)
