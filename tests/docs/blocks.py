"""The fenced blocks of a Markdown page, run one after the other as its reader would.

A block that cannot be run here says why in a comment of its own, right before it: `<!-- not run: REASON -->`. One that
stays, such as a server, says what it prints when it is ready: `<!-- stays, ready with: WORDS -->`; it is ended as a
person ends it when the page is done.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUN = ("bash", "python")
SHOWN = ("", "text", "yaml", "json", "toml", "sql")  # what is there to be read
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REMARK = re.compile(r"<!-- (not run|stays, ready with): (\S.*\S) -->\n\Z")
DEADLINE_S = 600


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    unrun: str | None  # why it is not run
    ready: str | None  # what one that stays prints

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path, root: Path) -> list[Block]:
    page, found = path.read_text(encoding="utf-8"), []
    for fence in FENCE.finditer(page):
        kind, said = remark.groups() if (remark := REMARK.search(page[: fence.start()])) else (None, None)
        where = (str(path.relative_to(root)), page[: fence.start()].count("\n") + 1)
        unrun, ready = (said if kind == word else None for word in ("not run", "stays, ready with"))
        found.append(Block(*where, fence[1], fence[2], unrun, ready))
    return found


class Reader:
    """Somebody who types what the pages say, in one folder. A context manager: what stays is ended at its end."""

    def __init__(self, folder: Path) -> None:
        self.folder, programs = folder, folder / ".venv" / "bin"
        self.commands = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [str(programs / "python"), "-c"]}
        # Ray's workers, too, import what lies in the folder, wherever the environment says that the package is.
        self.variables = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
        self.staying: list[tuple[Block, subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        for _, process, _ in self.staying:
            os.killpg(process.pid, signal.SIGINT)
        for block, process, log in self.staying:
            assert process.wait(120) == 130, f"{block.name}: {log.read_text(encoding='utf-8')[-3000:]}"

    def follow(self, blocks: Sequence[Block]) -> None:
        """Every block that can be run, in its order."""
        for block in blocks:
            if block.language in RUN and not block.unrun:
                self.start(block) if block.ready else self.run(block)

    def run(self, block: Block) -> None:
        done = subprocess.run(
            [*self.commands[block.language], block.text],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, (
            f"{block.name} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
        )

    def start(self, block: Block) -> None:
        log = self.folder / f"{block.line}.log"
        with open(log, "w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [*self.commands[block.language], f"exec {block.text}"],
                cwd=self.folder,
                env=self.variables,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background has it ignored
            )
        self.staying.append((block, process, log))
        deadline = time.monotonic() + DEADLINE_S
        while str(block.ready) not in (said := log.read_text(encoding="utf-8")):
            assert process.poll() is None and time.monotonic() < deadline, f"{block.name}: {said[-3000:]}"
            time.sleep(0.2)
