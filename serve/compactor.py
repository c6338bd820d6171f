"""The Compactor keeps a ledger tidy. A plain class; `app.py` deploys it, as a process of its own."""

import logging
import threading
from pathlib import Path
from time import sleep

from rlhf_ray.config import BadInput
from rlhf_ray.feedback.compaction import compact
from rlhf_ray.feedback.index import Index
from rlhf_ray.feedback.ledger import lay_out

LOG = logging.getLogger(__name__)


class Compactor:
    """Makes Parquet of what the ledger's segments hold, again and again."""

    def __init__(self, ledger: str, pause_s: float) -> None:
        self.folder, self.pause_s = Path(ledger), pause_s
        lay_out(self.folder)
        self.worker = threading.Thread(target=self._work, name="compactor", daemon=True)
        self.worker.start()

    def check_health(self) -> None:
        """Raises RuntimeError where nobody works any more."""
        if not self.worker.is_alive():
            raise RuntimeError(f"{self.folder}: nobody compacts the ledger")

    def _work(self) -> None:
        index = Index(self.folder)
        while True:
            try:
                compact(self.folder, index)
            except (OSError, BadInput) as error:  # a full disk, or a damaged file: nothing has changed
                LOG.error("the ledger is not compacted: %s", error)
            sleep(self.pause_s)
