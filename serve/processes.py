"""Who serves: every process of Ray Serve's, as Ray's own table of actors has it, whatever else is busy or dead."""

import asyncio
from typing import Any

from ray._private.state import actors

from serve.errors import Refused
from serve.orders import Refusal

DEADLINE_S = 5.0
ROLES = {"SERVE_CONTROLLER_ACTOR": "controller", "SERVE_PROXY_ACTOR": "proxy", "SERVE_REPLICA": "replica"}


async def processes() -> list[dict[str, Any]]:
    """Of each that lives its `role` (controller, proxy or replica), `name` (a replica's deployment), `id` and `pid`.

    Raises Refused where Ray does not say so in time.
    """
    try:
        async with asyncio.timeout(DEADLINE_S):
            alive = await asyncio.to_thread(actors, actor_state_name="ALIVE")
    except TimeoutError:
        raise Refused(Refusal(503, f"expected Ray to name its processes within {DEADLINE_S:g} s")) from None
    found = []
    for actor in alive.values():
        kind, _, rest = actor["Name"].partition("::")
        if role := ROLES.get(kind.partition("-")[0]):
            name = rest.split("#")[1] if role == "replica" else role
            found.append({"role": role, "name": name, "id": actor["ActorID"], "pid": actor["Pid"]})
    return sorted(found, key=lambda each: (each["role"], each["name"], each["id"]))
