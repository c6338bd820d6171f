"""Who serves: every process of Ray Serve's, as Ray itself knows it."""

import asyncio
from typing import Any

from ray.util.state import list_actors

DEADLINE_S = 5
MOST = 1000  # processes
ROLES = {"SERVE_CONTROLLER_ACTOR": "controller", "SERVE_PROXY_ACTOR": "proxy", "SERVE_REPLICA": "replica"}


async def processes() -> list[dict[str, Any]]:
    """Of each that lives its `role` (controller, proxy or replica), `name` (a replica's deployment) and `pid`."""
    return await asyncio.to_thread(_processes)


def _processes() -> list[dict[str, Any]]:
    alive = list_actors(
        filters=[("state", "=", "ALIVE")], limit=MOST, timeout=DEADLINE_S, raise_on_missing_output=False
    )
    found = []
    for actor in alive:
        kind, _, rest = (actor.name or "").partition("::")
        role = ROLES.get(kind.partition("-")[0])
        if role:
            name = rest.split("#")[1] if role == "replica" else role
            found.append({"role": role, "name": name, "id": actor.actor_id, "pid": actor.pid})
    return sorted(found, key=lambda each: (each["role"], each["name"], each["id"]))
