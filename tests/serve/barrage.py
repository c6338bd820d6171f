"""A barrage: probes sent by a few threads over connections that are kept, none of them twice."""

from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore, Lock
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from urllib3 import HTTPConnectionPool, connection_from_url
from urllib3.exceptions import HTTPError

from tests.serve.probe import Probe, fault

THREADS = 3
WAITING = 30  # probes that are made and not yet sent
AT_ONCE = 500  # examples of one run of hypothesis, which begins anew after that
MOST_FAULTS = 10  # after which there is nothing more to be learnt


class Barrage:
    """`heard` has the statuses of each door, `faults` what was wrong and with which probe; `known` are our words."""

    def __init__(self, url: str, known: str) -> None:
        self.pool: HTTPConnectionPool = connection_from_url(url, maxsize=THREADS, block=True, retries=False, timeout=90)
        self.known = known
        self.heard: dict[str, Counter[int]] = defaultdict(Counter)
        self.faults: list[str] = []
        self.sent: set[int] = set()
        self.lock, self.room = Lock(), BoundedSemaphore(WAITING)

    def of(self, made: st.SearchStrategy[Any], probes: Callable[[Any], list[Probe]], count: int) -> None:
        """So many distinct probes of what hypothesis makes up."""
        with ThreadPoolExecutor(THREADS) as threads:

            @given(made=made)
            @settings(
                suppress_health_check=list(HealthCheck),
                max_examples=min(AT_ONCE, count),
                deadline=None,
                derandomize=False,
                database=None,
                phases=[Phase.generate],
            )
            def some(made: Any) -> None:
                for probe in probes(made):
                    if len(self.sent) < count and probe.identity not in self.sent:
                        self.sent.add(probe.identity)
                        self.room.acquire()
                        threads.submit(self._send, probe)

            while len(self.sent) < count and len(self.faults) < MOST_FAULTS:
                some()

    def _send(self, probe: Probe) -> None:
        try:
            headers: Any = {name: value.encode("latin-1") for name, value in probe.headers.items()}
            answer = self.pool.urlopen(probe.method, probe.path, probe.body, headers, redirect=False)
            wrong = fault(probe, answer.status, answer.data, self.known)
            status, told = answer.status, answer.data
        except HTTPError as error:
            status, wrong, told = 0, "no answer", str(error).encode()
        except Exception as error:
            status, wrong, told = 0, "not sent", repr(error).encode()
        finally:
            self.room.release()
        with self.lock:
            self.heard[probe.door][status] += 1
            if wrong:
                self.faults.append(f"{wrong}: {status} {told[:1100]!r} to {str(probe)[:3000]}")

    def told(self) -> str:
        """How many, and what each door answered how often."""
        together: Counter[int] = sum(self.heard.values(), Counter())
        lines = [f"{sum(together.values())} requests, all different: {dict(sorted(together.items()))}"]
        return "\n".join(
            [*lines, *(f"  {door}: {dict(sorted(of.items()))}" for door, of in sorted(self.heard.items()))]
        )
