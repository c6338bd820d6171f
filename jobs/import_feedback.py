"""Bring votes into a ledger: `python -m jobs.import_feedback SOURCE LEDGER [TOKENIZER]`.

Rows that cannot be kept are written to `LEDGER/rejected/<source>.jsonl`, with the reason of each.
Votes without a time have that of the import: into a ledger of more than 300 votes they count as one day's newcomers, so
at most a tenth of what a run learns from is theirs (docs/ledger.md).
"""

import json
import sys
from pathlib import Path

from rlhf_ray.config import BadInput
from rlhf_ray.durable import digest, write_whole
from rlhf_ray.feedback.imports import import_votes
from rlhf_ray.feedback.ledger import Ledger
from rlhf_ray.models.loading import load_tokenizer

from jobs.door import was_help_asked
from jobs.ending import guarded

USAGE = "python -m jobs.import_feedback SOURCE LEDGER [TOKENIZER]"


def work() -> None:
    if was_help_asked(sys.argv[1:], USAGE, "docs/ledger.md"):
        return
    if not 3 <= len(sys.argv) <= 4:
        raise BadInput(f"expected {USAGE}, got {len(sys.argv) - 1} words")
    source, folder = sys.argv[1], Path(sys.argv[2])
    tokenizer = load_tokenizer(sys.argv[3]) if len(sys.argv) == 4 else None
    with Ledger.open(folder, "import") as ledger:
        imported = import_votes(source, ledger, tokenizer)
    print(f"{imported.new} new votes, {imported.known} known before → {folder}", file=sys.stderr)
    place = folder / "rejected" / f"{Path(source).name}-{digest(source.encode())[:8]}.jsonl"
    place.unlink(missing_ok=True)
    if imported.rejected:
        place.parent.mkdir(mode=0o700, exist_ok=True)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in imported.rejected)
        write_whole(place, "".join(lines))
        print(f"{len(imported.rejected)} rows rejected → {place}", file=sys.stderr)


if __name__ == "__main__":
    guarded(work)
