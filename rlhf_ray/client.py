"""A client of the server in `serve/`: it tries again where that can help, and what is sent twice counts once."""

import json
import secrets
from collections.abc import Sequence
from typing import Any

from urllib3 import PoolManager, Retry, Timeout

AGAIN = (408, 429, 500, 503)  # late, too many, a replica that died, nobody there yet


class ServerError(RuntimeError):
    """The server's refusal: its HTTP status and its sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Client:
    """Waits between tries with exponential backoff and jitter, or as long as the server's `Retry-After` says.

    Every call has an idempotency key of its own, the same at each try: a completion draws from it, so that a try whose
    answer was lost and the next one give the same answer.
    """

    def __init__(self, url: str, key: str = "", *, tries: int = 6, timeout_s: float = 90) -> None:
        retries = Retry(
            total=tries - 1,
            allowed_methods=None,
            status_forcelist=AGAIN,
            backoff_factor=0.1,
            backoff_jitter=0.2,
            backoff_max=5,
            respect_retry_after_header=True,
            raise_on_status=False,
        )
        self.url = url.rstrip("/")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.pool = PoolManager(retries=retries, timeout=Timeout(connect=5, read=timeout_s))

    def complete(self, prompt: str, model: str | None = None, **more: Any) -> dict[str, Any]:
        """OpenAI's completion, whole. `more` are its fields, such as seed and max_tokens. Raises ServerError."""
        return self._post("/v1/completions", {"prompt": prompt, "model": model} | more)

    def chat(self, messages: Sequence[dict[str, str]], model: str | None = None, **more: Any) -> dict[str, Any]:
        """OpenAI's chat completion, whole. Raises ServerError."""
        return self._post("/v1/chat/completions", {"messages": list(messages), "model": model} | more)

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """For each prompt and completion its normalised `score` and the `probability` of a 👍. Raises ServerError."""
        body = {"pairs": [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]}
        return self._post("/v1/score", body)["data"]

    def feedback(
        self, completion_id: str, label: int, comment: str | None = None, user: str | None = None
    ) -> dict[str, Any]:
        """A thumb, up (1) or down (-1), on a completion: on the disk when this returns. A person's last one counts.

        `user` is whose it is, where an application passes on its people's. The answer says which model spoke and what
        the reward model thinks. Raises ServerError.
        """
        body = {"completion_id": completion_id, "label": label, "comment": comment, "user": user}
        return self._post("/v1/feedback", body)

    def models(self) -> list[dict[str, Any]]:
        """What is served, the default first, each with `version` and `digest`. Raises ServerError."""
        return self._ask("GET", "/v1/models", {}, None)["data"]

    def promote(self, run: str) -> dict[str, Any]:
        """Serve another run's models, which the server tries first; what is served from then on. Raises ServerError."""
        return self._post("/admin/promote", {"run": run})

    def rollback(self) -> dict[str, Any]:
        """Serve what was served before the last promotion. What is served now. Raises ServerError."""
        return self._post("/admin/rollback", {})

    def versions(self) -> dict[str, Any]:
        """What is served, what was before, and every change. Raises ServerError."""
        return self._ask("GET", "/admin/versions", {}, None)

    def processes(self) -> list[dict[str, Any]]:
        """Who serves: `role`, `name`, `id` and `pid` of each process. Raises ServerError."""
        return self._ask("GET", "/admin/processes", {}, None)["data"]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
        return self._ask("POST", path, headers, json.dumps(body).encode())

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> dict[str, Any]:
        answer = self.pool.request(method, self.url + path, body=body, headers=self.headers | headers)
        if answer.status >= 400:
            raise ServerError(answer.status, _message(answer.data))
        return json.loads(answer.data)


def _message(body: bytes) -> str:
    """The sentence of an error in OpenAI's form; of anything else, such as a proxy's page, its beginning."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
