"""How a job ends: what is done and what is wrong is a line and an exit code."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from rlhf_ray.alarm import Tripped
from rlhf_ray.config import BadInput
from rlhf_ray.distributed.connection import disconnect

USER_MISTAKE, TRIPPED, INTERRUPTED = 2, 3, 130


def guarded(work: Callable[[], None]) -> NoReturn:
    """Run, and end the process: 0 when done, 2 for a user's mistake, 3 where the run stopped itself, 130 for Ctrl-C.

    A cluster's polite SIGTERM is a Ctrl-C. Anything else is a fault of ours: a traceback, and 1.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work()
    except BadInput as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(USER_MISTAKE)
    except Tripped as tripped:
        print(f"stopped: {tripped}", file=sys.stderr)
        sys.exit(TRIPPED)
    except KeyboardInterrupt:
        disconnect()
        print("interrupted; what had been finished is kept", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(os.EX_OK)
