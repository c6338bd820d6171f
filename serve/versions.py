"""Which version of each model is served: a small file. Its rename is the moment at which all doors turn to another one.

Every request looks at the file when it begins, so that no two doors disagree, and nobody sees a version come and go.
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from rlhf_ray.config import BadInput, Strict
from rlhf_ray.durable import write_whole

from serve.artefact import Artefact

RELEASES, TURNS = 20, 200  # kept: what can be returned to, and what is remembered. Before them, it is `first`

Models = Mapping[str, Artefact]


class Release(Strict):
    """What a promotion brought: models of one run, by the names under which they are served."""

    run: str
    models: dict[str, Artefact]


class Turn(Strict):
    """A change of what is served: when, to what, and by whose word. `key` is the request's, so that it counts once."""

    time: str
    action: Literal["promote", "rollback"]
    run: str = Field(description="What is served from then on; empty: what the serving file names.")
    versions: dict[str, str]
    by: str
    key: str


class Book(Strict):
    """The file. The last of `releases` is served, those before can be returned to; `history` begins with the oldest."""

    releases: list[Release] = Field(default_factory=list)
    history: list[Turn] = Field(default_factory=list)


class Versions:
    """`first` is what the serving file names: served as long as nothing was promoted. Without a path nothing can be."""

    def __init__(self, first: Models, path: Path | None = None) -> None:
        self.first, self.path = dict(first), path
        self._mark: tuple[int, ...] = ()
        self._book, self._now, self._trouble = Book(), self.after([]), ""

    def now(self) -> Models:
        """What is served. Where the file cannot be read for once, what was served before."""
        try:
            self.book()
            self._trouble = ""
        except BadInput as error:
            if str(error) != self._trouble:  # said once, not at every request
                logging.getLogger(__name__).error("%s; what was served before goes on", error)
            self._trouble = str(error)
        return self._now

    def book(self) -> Book:
        """The file's contents, read again only where it changed. Raises BadInput where it is damaged."""
        try:
            handle = os.open(self.path, os.O_RDONLY) if self.path else None
        except FileNotFoundError:
            handle = None
        except OSError as error:
            raise BadInput(f"{self.path}: expected the file of what is served, got: {error.strerror}") from None
        if handle is None:
            self._keep((), Book())
            return self._book
        with open(handle, encoding="utf-8") as file:
            state = os.fstat(handle)
            mark = state.st_ino, state.st_mtime_ns, state.st_size
            if mark != self._mark:
                try:
                    self._keep(mark, Book.model_validate_json(file.read()))
                except ValidationError:
                    raise BadInput(f"{self.path}: expected the versions that are served, got a damaged file") from None
        return self._book

    def after(self, releases: list[Release]) -> Models:
        """What would be served with these releases."""
        promoted = releases[-1].models if releases else {}
        return {name: promoted.get(name, model) for name, model in self.first.items()}

    def turn(self, action: Literal["promote", "rollback"], releases: list[Release], by: str, key: str) -> None:
        """From now on this is served, also after whatever restart."""
        if not self.path:
            raise BadInput("versions: expected a file to remember them in (args.versions), got none")
        versions = {name: model.version for name, model in self.after(releases).items()}
        run = releases[-1].run if releases else ""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        turn = Turn(time=now, action=action, run=run, versions=versions, by=by, key=key)
        book = Book(releases=releases[-RELEASES:], history=[*self.book().history, turn][-TURNS:])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, book.model_dump_json(indent=2))

    def _keep(self, mark: tuple[int, ...], book: Book) -> None:
        self._mark, self._book, self._now = mark, book, self.after(book.releases)
