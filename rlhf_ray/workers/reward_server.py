"""A reward that lives behind a URL, asked with patience and never trusted."""

import asyncio
import json
import time
from typing import Any

import aiohttp

LARGEST_ANSWER = 1024 * 1024  # bytes; one number a response is far less
PLAIN = {"Accept-Encoding": "identity"}  # what is received is what was sent, so its size is bounded
FIRST_PAUSE = 0.5  # seconds before the second try; each later pause is twice as long
AGAIN = {429, 500, 502, 503, 504}  # a later try may succeed


class RewardFailed(RuntimeError):
    """A reward gave no answer."""


class Server:
    """A reward behind a URL: POST `{"prompts": […], "completions": […]}`, answered by `{"scores": […]}`.

    An answer must be whole within the time, and what may succeed later is tried again. No redirect is followed: the
    texts go where the config says and nowhere else.
    """

    def __init__(self, url: str, timeout_s: float, tries: int) -> None:
        self.url = url
        self.timeout = aiohttp.ClientTimeout(total=timeout_s)
        self.tries = tries

    def __call__(self, prompts: list[str], completions: list[str]) -> list[Any]:
        for attempt in range(self.tries):
            try:
                return _scores(asyncio.run(self._post({"prompts": prompts, "completions": completions})))
            except (aiohttp.ClientError, TimeoutError, _TryAgain) as error:
                failure = error
            if attempt < self.tries - 1:
                time.sleep(FIRST_PAUSE * 2**attempt)
        why = f"no whole answer within {self.timeout.total:g} s" if isinstance(failure, TimeoutError) else str(failure)
        raise RewardFailed(f"no answer in {self.tries} tries ({why})") from failure

    async def _post(self, texts: dict[str, list[str]]) -> bytes:
        async with (
            aiohttp.ClientSession(timeout=self.timeout, auto_decompress=False) as session,
            session.post(self.url, json=texts, headers=PLAIN, allow_redirects=False) as response,
        ):
            if response.status in AGAIN:
                raise _TryAgain(f"status {response.status}")
            if response.status != 200:
                hint = " (redirects are not followed)" if 300 <= response.status < 400 else ""
                raise RewardFailed(f"expected status 200, got {response.status}{hint}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > LARGEST_ANSWER:
                    raise RewardFailed(f"expected an answer of at most {LARGEST_ANSWER} bytes, got more")
            return bytes(body)


class _TryAgain(RuntimeError):
    """What may go better next time."""


def _scores(body: bytes) -> list[Any]:
    try:
        answer = json.loads(body, parse_int=float)  # an integer may have more digits than a float can hold
    except (ValueError, RecursionError):
        raise RewardFailed(f"expected JSON, got {body[:60]!r}") from None
    scores = answer.get("scores") if isinstance(answer, dict) else None
    if not isinstance(scores, list):
        raise RewardFailed('expected {"scores": […]}, got another form')
    return scores
