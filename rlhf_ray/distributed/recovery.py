"""Going on after a loss: work that begins where its newest checkpoint is can simply be begun again."""

import logging
from collections.abc import Callable

from rlhf_ray.distributed.connection import ActorLost

log = logging.getLogger(__name__)


def insist(work: Callable[[], None], attempts: int = 4) -> None:
    """Do the work, and again where an actor was lost in the middle. Raises ActorLost when it was the last time."""
    for attempt in range(1, attempts + 1):
        try:
            return work()
        except ActorLost as loss:
            if attempt == attempts:
                raise
            log.warning("%s; attempt %d of %d goes on from the newest checkpoint", loss, attempt + 1, attempts)
    return None
