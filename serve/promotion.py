"""What is served turns to another run's models, and back: every process loads and tries them first.

Whatever fails leaves what is served as it was. One change at a time, whichever process is asked for it.
"""

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rlhf_ray.config import BadInput

from serve.artefact import REWARD, TUNED, Artefact, artefact_of_run
from serve.errors import Refused
from serve.orders import Refusal
from serve.rollouts import last_rollouts
from serve.verdicts import Pair
from serve.versions import Release, Versions

Rehearse = Callable[[Artefact, list[Pair]], Awaitable[Sequence[str]]]
Weigh = Callable[[Artefact, Artefact], Awaitable[str]]


async def welcome(model: Artefact, served: Artefact) -> str:
    """Whoever passed the rehearsal."""
    return ""


class Promotion:
    """`names` are the models that a promotion brings, of runs in the folder `runs`.

    `rehearse` has every process load a model and try it, and answers what each found wrong: empty where nothing is.
    `weigh` says why a reward model that is to be promoted may not follow another.
    """

    def __init__(
        self, versions: Versions, runs: Path, names: Sequence[str], rehearse: Rehearse, weigh: Weigh = welcome
    ) -> None:
        self.versions, self.runs, self.names, self.rehearse = versions, runs.resolve(), names, rehearse
        self.weigh = weigh

    async def promote(self, run: str, by: str, key: str) -> dict[str, Any]:
        """Serve this run's models from now on. Raises Refused where they are not fit for it."""
        with self._alone() as releases:
            if not self._is_done(key):
                release = await asyncio.to_thread(self._release, run)
                await self._turn("promote", [*releases, release], by, key)
        return self.told()

    async def rollback(self, by: str, key: str) -> dict[str, Any]:
        """Serve what was served before the last promotion. Raises Refused where there was none, or it is not fit."""
        with self._alone() as releases:
            if not self._is_done(key):
                if not releases:
                    raise Refused(Refusal(409, "expected something to go back to, got no promotion before"))
                await self._turn("rollback", releases[:-1], by, key)
        return self.told()

    def told(self) -> dict[str, Any]:
        """What is served, what a rollback would return to, and all changes, the newest first."""
        book = self.versions.book()

        def release(releases: list[Release]) -> dict[str, Any]:
            models = self.versions.after(releases).items()
            return {
                "run": releases[-1].run if releases else None,
                "models": {name: {"version": model.version, "digest": model.digest} for name, model in models},
            }

        history = [turn.model_dump(exclude={"key"}) for turn in reversed(book.history)]
        previous = release(book.releases[:-1]) if book.releases else None
        return {"object": "versions", "serving": release(book.releases), "previous": previous, "history": history}

    async def _turn(self, action: Literal["promote", "rollback"], releases: list[Release], by: str, key: str) -> None:
        now, after = self.versions.now(), self.versions.after(releases)
        changed = [model for name, model in after.items() if model != now[name]]
        if not changed and action == "promote":
            return
        rollouts = await asyncio.to_thread(last_rollouts, after[TUNED])
        found = await asyncio.gather(*(self.rehearse(model, rollouts) for model in changed))
        for model, sentences in zip(changed, found, strict=True):
            for wrong in filter(None, sentences):
                raise BadInput(f"{model.name} {model.version}: {wrong}")
            if model.name == REWARD and action == "promote" and (wrong := await self.weigh(model, now[REWARD])):
                raise BadInput(f"{REWARD} {model.version}: {wrong}")
        self.versions.turn(action, releases, by, key)  # all at once, or not at all

    def _release(self, run: str) -> Release:
        """The models of a run that lies where runs may lie. What was asked for is repeated only if it is there."""
        if TUNED not in self.names:
            raise BadInput(f"expected a server with a model {TUNED!r}, which a promotion replaces; it has none")
        place = Path(os.path.realpath(self.runs / run))  # wherever a link leads
        if not (place.is_relative_to(self.runs) and os.path.isdir(place / "ppo")):
            raise BadInput(f"run: expected the folder of a finished run in {self.runs}, got none")
        return Release(run=str(place), models={name: artefact_of_run(place, name) for name in self.names})

    def _is_done(self, key: str) -> bool:
        """Whether a request with this key was answered before: what is sent twice counts once."""
        return bool(key) and key in [turn.key for turn in self.versions.book().history]

    @contextmanager
    def _alone(self) -> Iterator[list[Release]]:
        """The releases so far, while nobody else turns to others. What goes wrong is one sentence."""
        path = self.versions.path
        if not path:
            raise Refused(Refusal(409, "expected a server with a file of versions (args.versions), got one without"))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path.with_name(f".{path.name}.lock"), "w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield self.versions.book().releases
        except BlockingIOError:
            raise Refused(Refusal(409, "expected one change at a time, got one while another is under way")) from None
        except BadInput as mistake:
            raise Refused(Refusal(409, f"{mistake}; what was served goes on")) from None
        except OSError as error:
            raise Refused(Refusal(507, f"{path}: {error.strerror}; what was served goes on")) from None
