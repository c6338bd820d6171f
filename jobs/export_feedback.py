"""Export the live votes of a ledger: `python -m jobs.export_feedback LEDGER FILE [FORM]`."""

import sys
from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.exports import FORMS, export

from jobs.door import was_help_asked
from jobs.ending import guarded

USAGE = f"python -m jobs.export_feedback LEDGER FILE [{' | '.join(FORMS)}]"


def work() -> None:
    if was_help_asked(sys.argv[1:], USAGE, "docs/ledger.md"):
        return
    if not 3 <= len(sys.argv) <= 4:
        raise BadInput(f"expected {USAGE}, got {len(sys.argv) - 1} words")
    folder, file, form = Path(sys.argv[1]), Path(sys.argv[2]), (sys.argv[3:] or ["jsonl"])[0]
    print(f"{export(folder, file, form)} votes → {file}", file=sys.stderr)


if __name__ == "__main__":
    guarded(work)
