"""Going on after a loss: work that begins where its newest checkpoint is can simply be begun again."""

import logging
from collections.abc import Callable

from rlhf_ray.distributed.connection import ActorLost

log = logging.getLogger(__name__)


def insist(work: Callable[[], None], progress: Callable[[], int], attempts: int = 4) -> None:
    """Do the work, and again where an actor was lost in the middle of it.

    Raises ActorLost after so many losses in a row between which `progress`, such as the newest checkpoint's step, did
    not grow.
    """
    losses, before = 0, progress()
    while True:
        try:
            return work()
        except ActorLost as loss:
            now = progress()
            losses, before = (1 if now > before else losses + 1), now
            if losses == attempts:
                raise
            log.warning("%s; going on from the newest checkpoint (step %d)", loss, now)
